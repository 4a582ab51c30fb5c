import FlowCore
public import FlowTensor
import Foundation

/// How a parameter begins, drawn from a stream of its own name: adding a layer changes no other.
public enum Initializer: Sendable, Hashable {
  case zeros
  case ones
  /// The same value everywhere.
  case constant(Float)
  /// Normal with this standard deviation.
  case normal(Float)
  /// Uniform in ±1/sqrt(fan-in), as torch's linear and convolution layers.
  case fanIn(Int)

  /// The values of a parameter called `name`.
  public func values(
    _ name: String, _ shape: [Int], seed: UInt64
  ) throws(TensorError) -> HostTensor {
    let count = shape.reduce(1, *)
    var random = Philox(seed: seed, label: "init " + name)
    switch self {
    case .zeros: return try HostTensor([Float](repeating: 0, count: count), shape)
    case .ones: return try HostTensor([Float](repeating: 1, count: count), shape)
    case .constant(let value): return try HostTensor([Float](repeating: value, count: count), shape)
    case .normal(let deviation):
      return try HostTensor((0..<count).map { _ in Float(random.normal()) * deviation }, shape)
    case .fanIn(let fan):
      let bound = 1 / Double(max(1, fan)).squareRoot()
      return try HostTensor((0..<count).map { _ in Float(random.uniform(-bound...bound)) }, shape)
    }
  }
}

/// All parameters that modules declared in a graph, in order.
public final class ParameterList {
  /// A declaration.
  public struct Declaration {
    /// The full name, as in the checkpoint.
    public let name: String
    /// The graph's tensor.
    public let tensor: Tensor
    /// How it begins.
    public let initializer: Initializer
  }
  /// The declarations, in order.
  public private(set) var declarations: [Declaration] = []
  /// The graph.
  public let graph: Graph
  /// The paths of the linear layers, in order.
  public private(set) var linearLayers: [String] = []
  private let adaptation: Adaptation?
  private let isFrozen: Bool
  private let beside: [String]
  private let types: (String) -> DType?

  /// No parameters yet.
  /// - Parameters:
  ///   - adaptation: linear layers that it covers get low-rank parameters beside their own.
  ///   - isFrozen: of the model itself nothing is trained; nor is it where there is an adaptation.
  ///   - beside: scopes of what stands beside the model: always trained, and not among given weights.
  ///   - types: the type of the parameter of a name; float32 where there is none.
  public init(
    _ graph: Graph, adaptation: Adaptation? = nil, isFrozen: Bool = false, beside: [String] = [],
    types: @escaping (String) -> DType? = { _ in nil }
  ) {
    self.graph = graph
    self.adaptation = adaptation
    self.isFrozen = isFrozen || adaptation != nil
    self.beside = beside.map { $0 + "." }
    self.types = types
  }

  /// What a training changes: all parameters, or those alone that are low-rank or beside the model when it is frozen.
  public var trainable: [Declaration] {
    isFrozen
      ? declarations.filter { LowRank.module(ofKey: $0.name) != nil || isBeside($0.name) } : declarations
  }

  private func isBeside(_ name: String) -> Bool { beside.contains { name.hasPrefix($0) } }

  /// The adaptation of the linear layer at `scope`, if it is covered.
  func adapter(of scope: ParameterScope, _ input: Int, _ output: Int) throws(TensorError) -> Adapted? {
    if !linearLayers.contains(scope.prefix) { linearLayers.append(scope.prefix) }
    guard let adaptation, adaptation.settings.covers(scope.prefix) else { return nil }
    return try Adapted(adaptation, scope, input, output)
  }

  /// The scope with no prefix.
  public var scope: ParameterScope { ParameterScope(list: self, prefix: "") }

  fileprivate func declare(_ name: String, _ shape: [Int], _ initializer: Initializer)
    throws(TensorError) -> Tensor
  {
    let tensor = try graph.parameter(name, shape, types(name) ?? .float32)
    if !declarations.contains(where: { $0.name == name }) {
      declarations.append(Declaration(name: name, tensor: tensor, initializer: initializer))
    }
    return tensor
  }

  /// Throws unless weights of these shapes, if there are any, are those of the model that this list recorded. Low-rank
  /// parameters may lack, and the heads that only a training from scratch uses may be there.
  /// - Throws: `ParameterError`.
  public func accept(_ shapes: [String: [Int]]) throws(ParameterError) {
    guard !shapes.isEmpty else { return }
    let wanted = declarations.filter {
      shapes[$0.name] != nil || LowRank.module(ofKey: $0.name) == nil && !isBeside($0.name)
    }
    for declaration in wanted {
      if let found = shapes[declaration.name], found != declaration.tensor.shape {
        throw .shape(declaration.name, expected: declaration.tensor.shape, found: found)
      }
    }
    let missing = wanted.map(\.name).filter { shapes[$0] == nil }
    guard missing.isEmpty else { throw .missing(missing.sorted()) }
    let strange = Set(shapes.keys).subtracting(declarations.map(\.name)).filter {
      !$0.contains("projectors.")
    }
    guard strange.isEmpty else { throw .unexpected(strange.sorted()) }
  }

  /// Gives every declared parameter that `store` lacks its initial value.
  /// - Throws: `TensorError` when the store holds one of another shape.
  public func initialize(_ store: ParameterStore, seed: UInt64) throws {
    for declaration in declarations {
      if let shape = store.shape(declaration.name) {
        guard shape == declaration.tensor.shape else {
          throw TensorError.parameter(
            "'\(declaration.name)' has shape \(shape), the model wants \(declaration.tensor.shape)")
        }
        continue
      }
      try store.set(
        declaration.name,
        try declaration.initializer.values(declaration.name, declaration.tensor.shape, seed: seed))
    }
  }
}

/// Where a module's parameters get their names: `scope["q_proj"].parameter("weight", …)`.
public struct ParameterScope {
  let list: ParameterList
  /// The name so far, without the last dot.
  public let prefix: String

  /// The scope below this, for a part of the module.
  public subscript(name: String) -> ParameterScope {
    ParameterScope(list: list, prefix: prefix.isEmpty ? name : prefix + "." + name)
  }
  /// The scope of the part number `index`.
  public subscript(index: Int) -> ParameterScope { self[String(index)] }

  /// The graph.
  public var graph: Graph { list.graph }

  /// Runs `body`, which records the module of this scope: errors, dumps and profiles name it as the checkpoint does.
  public func record<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    try graph.within(prefix, body)
  }

  /// Declares the parameter `name`.
  /// - Throws: `TensorError` when it was declared with another shape.
  public func parameter(
    _ name: String, _ shape: [Int], _ initializer: Initializer
  ) throws(TensorError) -> Tensor {
    try list.declare(self[name].prefix, shape, initializer)
  }
}

/// RMSNorm over the last axis; weight [width].
public struct RMSNorm {
  private let weight: Tensor
  private let scope: ParameterScope
  /// Declares `weight` in `scope`.
  public init(_ scope: ParameterScope, _ width: Int) throws(TensorError) {
    self.scope = scope
    weight = try scope.parameter("weight", [width], .ones)
  }
  /// [..., width] -> the same.
  public func callAsFunction(_ x: Tensor) throws(TensorError) -> Tensor {
    try scope.record { () throws(TensorError) in try x.rmsNorm(weight) }
  }
}

/// y = x Wᵀ + b; weight [out, in], bias [out].
public struct Linear {
  let weight: Tensor
  let bias: Tensor?
  private let scope: ParameterScope
  private let adapter: Adapted?
  /// Declares `weight` and `bias` in `scope`, and low-rank parameters if the scope's adaptation covers the layer.
  public init(_ scope: ParameterScope, _ input: Int, _ output: Int, bias: Bool = true)
    throws(TensorError)
  {
    self.scope = scope
    weight = try scope.parameter("weight", [output, input], .fanIn(input))
    self.bias = bias ? try scope.parameter("bias", [output], .fanIn(input)) : nil
    adapter = try scope.list.adapter(of: scope, input, output)
  }
  /// [..., in] -> [..., out].
  public func callAsFunction(_ x: Tensor) throws(TensorError) -> Tensor {
    try scope.record { () throws(TensorError) in
      let y = try x.linear(weight, bias)
      return if let adapter { try y + adapter(x) } else { y }
    }
  }
}
