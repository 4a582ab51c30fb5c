/// An operation: its name, shape rule, gradient, and a naive reference in double precision. An op lives in one file;
/// a backend finds its kernel by the op's type.
public protocol Op: Sendable {
  /// A short name for dumps, such as `conv1d`.
  var name: String { get }
  /// The shapes of the outputs.
  /// - Throws: `TensorError` that says what was expected, when the op has no result for inputs of these shapes or of
  ///   this number; `Graph.apply` adds the module path.
  func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]]
  /// The element type of the outputs.
  /// - Throws: `TensorError.dtype` when the op can't take inputs of these types.
  func outputType(_ inputs: [DType]) throws(TensorError) -> DType
  /// The gradients with respect to each input (`nil`: none flows), given those with respect to each output (`nil`:
  /// nothing depends on it), written in ops.
  /// - Throws: `TensorError.derivative` when there is no rule.
  func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?]
  /// The outputs computed naively, row-major, in double precision; int32 inputs come as doubles.
  func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]]
  /// Multiply-adds counted as two, for dumps and rates.
  func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int
  /// The input whose buffer output i may overwrite, as every element is read before its place is written.
  func inPlaceInput(ofOutput index: Int) -> Int?
  /// Whether it is a sum of products that can go at the speed of the matrix product.
  var isProduct: Bool { get }
  /// The inputs whose buffer output i may overwrite, likewise; the first that is free is taken.
  func inPlaceInputs(ofOutput index: Int) -> [Int]
  /// Whether the output is the input's bytes under another shape.
  var isView: Bool { get }
  /// Whether it takes elements of every type as they are; other ops are given 16-bit floats widened.
  var takesAnyType: Bool { get }
  /// The input that holds indices, if one does, and the number that they must be below.
  func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)?
  /// Floats of scratch memory that the kernel wants.
  func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int
}

extension Op {
  /// float32 from float32.
  public func outputType(_ inputs: [DType]) throws(TensorError) -> DType {
    guard inputs.allSatisfy({ $0 == .float32 }) else {
      throw .dtype(op: name, found: inputs, expected: "its inputs are float32")
    }
    return .float32
  }
  /// One for each element of the outputs.
  public func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { outputs.reduce(0) { $0 + $1.elements } }
  /// None.
  public func inPlaceInput(ofOutput index: Int) -> Int? { nil }
  /// `inPlaceInput`.
  public func inPlaceInputs(ofOutput index: Int) -> [Int] { inPlaceInput(ofOutput: index).map { [$0] } ?? [] }
  /// None does.
  public func indexLimit(_ inputs: [[Int]]) -> (input: Int, limit: Int)? { nil }
  /// No.
  public var isProduct: Bool { false }
  /// No.
  public var isView: Bool { false }
  /// No.
  public var takesAnyType: Bool { false }
  /// None.
  public func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
}

extension [Int] {
  /// The number of elements of a tensor of this shape; the largest number when it is beyond that.
  var elements: Int {
    reduce(1) { product, dimension in
      let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
      return overflow ? Int.max : next
    }
  }

  /// Whether a tensor can have this shape: no dimension is negative, and its bytes can be counted.
  var isValid: Bool { allSatisfy { $0 >= 0 } && elements < 1 << 48 }
}

/// What an op's gradient rule sees.
public struct GradientContext {
  /// The op's inputs.
  public let inputs: [Tensor]
  /// The op's outputs.
  public let outputs: [Tensor]
  /// The gradient of each output, if anything depends on it.
  public let upstream: [Tensor?]
  /// The op's name.
  let name: String
  /// The first output's gradient.
  /// - Throws: `TensorError.derivative` when a gradient comes from another output, which most rules leave out.
  public var g: Tensor {
    get throws(TensorError) {
      guard let first = upstream[0], upstream.dropFirst().allSatisfy({ $0 == nil }) else {
        throw .derivative(op: name, problem: "a gradient flows only through its first output")
      }
      return first
    }
  }
}
