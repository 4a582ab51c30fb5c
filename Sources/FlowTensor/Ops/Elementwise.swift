import Foundation

/// Elementwise functions of one tensor. The raw value is the kernel's number.
public enum UnaryFunction: Int32, Sendable, CaseIterable {
  case negate, exp, log, sqrt, reciprocal, sin, cos, tanh, sigmoid, silu, abs, square, sign, relu, step
  case softplus, rsqrt, floor, round, erf

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
    case .relu: x < 0 ? 0 : x
    case .step: x > 0 ? 1 : 0
    case .softplus: max(x, 0) + Foundation.log1p(Foundation.exp(-Swift.abs(x)))
    case .rsqrt: 1 / x.squareRoot()
    case .floor: x.rounded(.down)
    case .round: x.rounded(.toNearestOrEven)
    case .erf: Foundation.erf(x)
    }
  }

  /// Where tests draw from: away from poles and kinks.
  public var domain: ClosedRange<Double> {
    switch self {
    case .log, .sqrt, .reciprocal, .rsqrt: 0.3...3
    case .floor, .round: 2.6...2.9
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
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    return [inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }

  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (x, y, g) = (context.inputs[0], context.outputs[0], try context.g)
    switch function {
    case .negate: return [try -g]
    case .exp: return [try g * y]
    case .log: return [try g / x]
    case .sqrt: return [try g * y.reciprocal() * 0.5]
    case .reciprocal: return [try -(g * y * y)]
    case .sin: return [try g * x.cos()]
    case .cos: return [try -(g * x.sin())]
    case .tanh: return [try g * (1 - y * y)]
    case .sigmoid: return [try g * y * (1 - y)]
    case .silu:
      // From x alone, so that y need not be kept.
      let s = try x.sigmoid()
      let rest = try x * (1 - s)
      return [try g * s * (rest + 1)]
    case .abs: return [try g * x.sign()]
    case .square: return [try g * x * 2]
    case .relu: return [try g * x.step()]
    case .softplus: return [try g * x.sigmoid()]
    case .rsqrt: return [try g * y * y * y * -0.5]
    case .erf: return [try g * (-x.square()).exp() * 1.12837917]
    case .sign, .step, .floor, .round: return [nil]
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
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1)
    return [inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    [try context.g * scale]
  }
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    [inputs[0].map { $0 * Double(scale) + Double(offset) }]
  }
}

/// Elementwise functions of two tensors; the larger or smaller of anything and NaN is NaN. The raw value is the kernel's number.
public enum BinaryFunction: Int32, Sendable, CaseIterable {
  case add, subtract, multiply, divide, maximum, minimum
  /// a to the power of b; NaN for a negative a with a b that isn't whole.
  case power
  /// 1 where it holds, else 0; nothing holds for NaN.
  case greater, greaterOrEqual, equal
  /// a where b isn't 0, else 0, whatever a is there.
  case mask

  func value(_ a: Double, _ b: Double) -> Double {
    switch self {
    case .add: a + b
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    case .maximum: a > b || a.isNaN ? a : b
    case .minimum: a < b || a.isNaN ? a : b
    case .power: Foundation.pow(a, b)
    case .greater: a > b ? 1 : 0
    case .greaterOrEqual: a >= b ? 1 : 0
    case .equal: a == b ? 1 : 0
    case .mask: b != 0 ? a : 0
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

  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 2)
    guard let shape = Broadcast.shape(inputs[0], inputs[1]) else {
      throw .shape(
        op: name, shapes: inputs, expected: "axes counted from the last are equal, or one of them is 1")
    }
    return [shape]
  }

  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    let (a, b, g) = (context.inputs[0], context.inputs[1], try context.g)
    switch function {
    case .add: return [try g.reduced(to: a.shape), try g.reduced(to: b.shape)]
    case .subtract: return [try g.reduced(to: a.shape), try (-g).reduced(to: b.shape)]
    case .multiply: return [try (g * b).reduced(to: a.shape), try (g * a).reduced(to: b.shape)]
    case .divide:
      let ga = try g / b
      return [try ga.reduced(to: a.shape), try (-(ga * context.outputs[0])).reduced(to: b.shape)]
    case .maximum, .minimum:
      // Of equals, the first is taken: at a bound, what is clamped has a gradient.
      let first = try function == .maximum ? a.greaterOrEqual(b) : b.greaterOrEqual(a)
      return [try (g * first).reduced(to: a.shape), try (g * (1 - first)).reduced(to: b.shape)]
    case .power:
      // 0 where the factor b is 0, and the logarithm only of what has one.
      let ga = try (g * b * a.power(b - 1)).masked(by: b)
      let gb = try (g * context.outputs[0] * a.log()).masked(by: a.step())
      return [try ga.reduced(to: a.shape), try gb.reduced(to: b.shape)]
    case .mask: return [try g.masked(by: b).reduced(to: a.shape), nil]
    case .greater, .greaterOrEqual, .equal: return [nil, nil]
    }
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    let shape = Broadcast.shape(shapes[0], shapes[1]) ?? []
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
package enum Broadcast {
  /// The common shape of `a` and `b`, if they have one.
  package static func shape(_ a: [Int], _ b: [Int]) -> [Int]? {
    let rank = max(a.count, b.count)
    let pa = [Int](repeating: 1, count: rank - a.count) + a
    let pb = [Int](repeating: 1, count: rank - b.count) + b
    guard zip(pa, pb).allSatisfy({ $0 == $1 || $0 == 1 || $1 == 1 }) else { return nil }
    return zip(pa, pb).map { $0 == 1 ? $1 : $0 }
  }

  /// Row-major strides of `shape` seen as `target`, which it can be broadcast to: 0 along broadcast axes.
  package static func strides(of shape: [Int], in target: [Int]) -> [Int] {
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
  /// Throws an error about this tensor, and `others`, unless `condition` holds.
  func require(
    _ condition: Bool, _ op: String, _ expected: @autoclosure () -> String, others: [[Int]] = []
  ) throws(TensorError) {
    if !condition { throw .shape(op: op, shapes: [shape] + others, expected: expected(), path: graph.path) }
  }
}

extension Tensor {
  private func unary(_ function: UnaryFunction) throws(TensorError) -> Tensor {
    try graph.apply(Unary(function), [self])[0]
  }
  private func binary(_ function: BinaryFunction, _ other: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(function), [self, other])[0]
  }
  private func affine(_ scale: Float, _ offset: Float) throws(TensorError) -> Tensor {
    try graph.apply(Affine(scale: scale, offset: offset), [self])[0]
  }

  /// e to the power of each element.
  public func exp() throws(TensorError) -> Tensor { try unary(.exp) }
  /// The natural logarithm.
  public func log() throws(TensorError) -> Tensor { try unary(.log) }
  /// The square root.
  public func sqrt() throws(TensorError) -> Tensor { try unary(.sqrt) }
  /// 1/x.
  public func reciprocal() throws(TensorError) -> Tensor { try unary(.reciprocal) }
  /// The sine.
  public func sin() throws(TensorError) -> Tensor { try unary(.sin) }
  /// The cosine.
  public func cos() throws(TensorError) -> Tensor { try unary(.cos) }
  /// The hyperbolic tangent.
  public func tanh() throws(TensorError) -> Tensor { try unary(.tanh) }
  /// 1/(1+exp(-x)).
  public func sigmoid() throws(TensorError) -> Tensor { try unary(.sigmoid) }
  /// x/(1+exp(-x)).
  public func silu() throws(TensorError) -> Tensor { try unary(.silu) }
  /// |x|.
  public func abs() throws(TensorError) -> Tensor { try unary(.abs) }
  /// x².
  public func square() throws(TensorError) -> Tensor { try unary(.square) }
  /// -1, 0 or 1.
  public func sign() throws(TensorError) -> Tensor { try unary(.sign) }
  /// max(x, 0).
  public func relu() throws(TensorError) -> Tensor { try unary(.relu) }
  /// 1 where x > 0, else 0.
  public func step() throws(TensorError) -> Tensor { try unary(.step) }
  /// The larger of two.
  public func maximum(_ other: Tensor) throws(TensorError) -> Tensor { try binary(.maximum, other) }
  /// The smaller of two.
  public func minimum(_ other: Tensor) throws(TensorError) -> Tensor { try binary(.minimum, other) }
  /// Limited to `low`...`high`.
  public func clamped(_ low: Float, _ high: Float) throws(TensorError) -> Tensor {
    try maximum(graph.constant(low)).minimum(graph.constant(high))
  }

  /// The negative.
  public static prefix func - (x: Tensor) throws(TensorError) -> Tensor { try x.unary(.negate) }
  /// The sum, broadcast.
  public static func + (a: Tensor, b: Tensor) throws(TensorError) -> Tensor { try a.binary(.add, b) }
  /// The difference, broadcast.
  public static func - (a: Tensor, b: Tensor) throws(TensorError) -> Tensor { try a.binary(.subtract, b) }
  /// The product, broadcast.
  public static func * (a: Tensor, b: Tensor) throws(TensorError) -> Tensor { try a.binary(.multiply, b) }
  /// The quotient, broadcast.
  public static func / (a: Tensor, b: Tensor) throws(TensorError) -> Tensor { try a.binary(.divide, b) }
  /// The sum, broadcast.
  public static func + (a: Tensor, b: Float) throws(TensorError) -> Tensor { try a.affine(1, b) }
  /// The difference, broadcast.
  public static func - (a: Tensor, b: Float) throws(TensorError) -> Tensor { try a.affine(1, -b) }
  /// The difference, broadcast.
  public static func - (a: Float, b: Tensor) throws(TensorError) -> Tensor { try b.affine(-1, a) }
  /// The product, broadcast.
  public static func * (a: Tensor, b: Float) throws(TensorError) -> Tensor { try a.affine(b, 0) }
}
