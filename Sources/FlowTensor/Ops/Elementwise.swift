import Foundation

/// Elementwise functions of one tensor. The raw value is the kernel's number.
public enum UnaryFunction: Int32, Sendable, CaseIterable {
  case negate, exp, log, sqrt, reciprocal, sin, cos, tanh, sigmoid, silu, abs, square, sign, relu, step

  func value(_ x: Double) -> Double {
    switch self {
    case .negate: -x
    case .exp: Foundation.exp(x)
    case .log: Foundation.log(x)
    case .sqrt: x.squareRoot()
    case .reciprocal: 1 / x
    case .sin: Foundation.sin(x)
    case .cos: Foundation.cos(x)
    case .tanh: Foundation.tanh(x)
    case .sigmoid: 1 / (1 + Foundation.exp(-x))
    case .silu: x / (1 + Foundation.exp(-x))
    case .abs: Swift.abs(x)
    case .square: x * x
    case .sign: x > 0 ? 1 : (x < 0 ? -1 : 0)
    case .relu: max(x, 0)
    case .step: x > 0 ? 1 : 0
    }
  }

  /// Where tests draw from: away from poles and kinks.
  public var domain: ClosedRange<Double> {
    switch self {
    case .log, .sqrt, .reciprocal: 0.3...3
    case .abs, .sign, .relu, .step: 0.2...2
    default: -3...3
    }
  }
}

/// An elementwise function of one tensor, of its shape.
package struct Unary: Op {
  let function: UnaryFunction
  /// The function `function`.
  package init(_ function: UnaryFunction) { self.function = function }
  package var name: String { "\(function)" }
  /// The kernel's number.
  package var code: Int32 { function.rawValue }
  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] { [inputs[0]] }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }

  package func gradients(_ context: GradientContext) -> [Tensor?] {
    let (x, y, g) = (context.inputs[0], context.outputs[0], context.g)
    switch function {
    case .negate: return [-g]
    case .exp: return [g * y]
    case .log: return [g / x]
    case .sqrt: return [g * y.reciprocal() * 0.5]
    case .reciprocal: return [-(g * y * y)]
    case .sin: return [g * x.cos()]
    case .cos: return [-(g * x.sin())]
    case .tanh: return [g * (1 - y * y)]
    case .sigmoid: return [g * y * (1 - y)]
    case .silu:
      let s = x.sigmoid()
      return [g * (s + y * (1 - s))]
    case .abs: return [g * x.sign()]
    case .square: return [g * x * 2]
    case .relu: return [g * x.step()]
    case .sign, .step: return [nil]
    }
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    [inputs[0].map(function.value)]
  }
}

/// x * scale + offset, elementwise.
package struct Affine: Op {
  /// The factor.
  package let scale: Float
  /// The summand.
  package let offset: Float
  package var name: String { "affine" }
  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] { [inputs[0]] }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func gradients(_ context: GradientContext) -> [Tensor?] { [context.g * scale] }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    [inputs[0].map { $0 * Double(scale) + Double(offset) }]
  }
}

/// Elementwise functions of two tensors. The raw value is the kernel's number.
public enum BinaryFunction: Int32, Sendable, CaseIterable {
  case add, subtract, multiply, divide, maximum, minimum

  func value(_ a: Double, _ b: Double) -> Double {
    switch self {
    case .add: a + b
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    case .maximum: max(a, b)
    case .minimum: min(a, b)
    }
  }
}

/// An elementwise function of two tensors, with NumPy's broadcasting.
package struct Binary: Op {
  let function: BinaryFunction
  /// The function `function`.
  package init(_ function: BinaryFunction) { self.function = function }
  package var name: String { "\(function)" }
  /// The kernel's number.
  package var code: Int32 { function.rawValue }

  package func outputShapes(_ inputs: [[Int]]) -> [[Int]] { [Broadcast.shape(inputs[0], inputs[1])] }

  package func gradients(_ context: GradientContext) -> [Tensor?] {
    let (a, b, g) = (context.inputs[0], context.inputs[1], context.g)
    switch function {
    case .add: return [g.reduced(to: a.shape), g.reduced(to: b.shape)]
    case .subtract: return [g.reduced(to: a.shape), (-g).reduced(to: b.shape)]
    case .multiply: return [(g * b).reduced(to: a.shape), (g * a).reduced(to: b.shape)]
    case .divide:
      let ga = g / b
      return [ga.reduced(to: a.shape), (-(ga * context.outputs[0])).reduced(to: b.shape)]
    case .maximum, .minimum:
      let first = function == .maximum ? (a - b).step() : (b - a).step()
      return [(g * first).reduced(to: a.shape), (g * (1 - first)).reduced(to: b.shape)]
    }
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let shape = Broadcast.shape(shapes[0], shapes[1])
    let (a, b) = (Broadcast.strides(of: shapes[0], in: shape), Broadcast.strides(of: shapes[1], in: shape))
    var result: [Double] = []
    Broadcast.forEachIndex(shape) { index in
      let i = zip(index, a).reduce(0) { $0 + $1.0 * $1.1 }
      let j = zip(index, b).reduce(0) { $0 + $1.0 * $1.1 }
      result.append(function.value(inputs[0][i], inputs[1][j]))
    }
    return [result]
  }
}

/// NumPy's broadcasting rules.
public enum Broadcast {
  /// The common shape of `a` and `b`; a precondition failure when they have none.
  public static func shape(_ a: [Int], _ b: [Int]) -> [Int] {
    let rank = max(a.count, b.count)
    let pa = [Int](repeating: 1, count: rank - a.count) + a
    let pb = [Int](repeating: 1, count: rank - b.count) + b
    return (0..<rank).map {
      precondition(pa[$0] == pb[$0] || pa[$0] == 1 || pb[$0] == 1, "shapes \(a) and \(b) don't broadcast")
      return max(pa[$0], pb[$0])
    }
  }

  /// Row-major strides of `shape` seen as `target`: 0 along broadcast axes.
  public static func strides(of shape: [Int], in target: [Int]) -> [Int] {
    let padded = [Int](repeating: 1, count: target.count - shape.count) + shape
    var strides = [Int](repeating: 0, count: target.count)
    var step = 1
    for axis in stride(from: target.count - 1, through: 0, by: -1) {
      strides[axis] = padded[axis] == 1 && target[axis] != 1 ? 0 : step
      step *= padded[axis]
    }
    return strides
  }

  static func forEachIndex(_ shape: [Int], _ body: ([Int]) -> Void) {
    var index = [Int](repeating: 0, count: shape.count)
    for _ in 0..<shape.elements {
      body(index)
      var axis = shape.count - 1
      while axis >= 0 {
        index[axis] += 1
        if index[axis] < shape[axis] { break }
        index[axis] = 0
        axis -= 1
      }
    }
  }
}

extension Tensor {
  private func unary(_ function: UnaryFunction) -> Tensor { graph.apply(Unary(function), [self])[0] }
  private func binary(_ function: BinaryFunction, _ other: Tensor) -> Tensor {
    graph.apply(Binary(function), [self, other])[0]
  }
  private func affine(_ scale: Float, _ offset: Float) -> Tensor {
    graph.apply(Affine(scale: scale, offset: offset), [self])[0]
  }

  /// e to the power of each element.
  public func exp() -> Tensor { unary(.exp) }
  /// The natural logarithm.
  public func log() -> Tensor { unary(.log) }
  /// The square root.
  public func sqrt() -> Tensor { unary(.sqrt) }
  /// 1/x.
  public func reciprocal() -> Tensor { unary(.reciprocal) }
  /// The sine.
  public func sin() -> Tensor { unary(.sin) }
  /// The cosine.
  public func cos() -> Tensor { unary(.cos) }
  /// The hyperbolic tangent.
  public func tanh() -> Tensor { unary(.tanh) }
  /// 1/(1+exp(-x)).
  public func sigmoid() -> Tensor { unary(.sigmoid) }
  /// x/(1+exp(-x)).
  public func silu() -> Tensor { unary(.silu) }
  /// |x|.
  public func abs() -> Tensor { unary(.abs) }
  /// x².
  public func square() -> Tensor { unary(.square) }
  /// -1, 0 or 1.
  public func sign() -> Tensor { unary(.sign) }
  /// max(x, 0).
  public func relu() -> Tensor { unary(.relu) }
  /// 1 where x > 0, else 0.
  public func step() -> Tensor { unary(.step) }
  /// The larger of two.
  public func maximum(_ other: Tensor) -> Tensor { binary(.maximum, other) }
  /// The smaller of two.
  public func minimum(_ other: Tensor) -> Tensor { binary(.minimum, other) }
  /// Limited to `low`...`high`.
  public func clamped(_ low: Float, _ high: Float) -> Tensor {
    maximum(graph.constant(low)).minimum(graph.constant(high))
  }

  /// The negative.
  public static prefix func - (x: Tensor) -> Tensor { x.unary(.negate) }
  /// The sum, broadcast.
  public static func + (a: Tensor, b: Tensor) -> Tensor { a.binary(.add, b) }
  /// The difference, broadcast.
  public static func - (a: Tensor, b: Tensor) -> Tensor { a.binary(.subtract, b) }
  /// The product, broadcast.
  public static func * (a: Tensor, b: Tensor) -> Tensor { a.binary(.multiply, b) }
  /// The quotient, broadcast.
  public static func / (a: Tensor, b: Tensor) -> Tensor { a.binary(.divide, b) }
  /// The sum, broadcast.
  public static func + (a: Tensor, b: Float) -> Tensor { a.affine(1, b) }
  /// The difference, broadcast.
  public static func - (a: Tensor, b: Float) -> Tensor { a.affine(1, -b) }
  /// The difference, broadcast.
  public static func - (a: Float, b: Tensor) -> Tensor { b.affine(-1, a) }
  /// The product, broadcast.
  public static func * (a: Tensor, b: Float) -> Tensor { a.affine(b, 0) }
}
