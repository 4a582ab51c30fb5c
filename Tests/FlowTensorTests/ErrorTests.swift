import FlowOpTable
import FlowTensorCPU
import Testing

@testable import FlowTensor

/// Mistakes in recording a program: each is an error that names the op, what it was given, what it expected, and where.
@Suite struct ErrorTests {
  private func message(_ body: (Graph) throws(TensorError) -> Void) -> String {
    let graph = Graph()
    do throws(TensorError) {
      try graph.scope("layers.3") { () throws(TensorError) in
        try graph.scope("mlp") { () throws(TensorError) in try body(graph) }
      }
      return "no error"
    } catch { return "\(error)" }
  }

  private struct Mistake: CustomTestStringConvertible, Sendable {
    let text: String
    let record: @Sendable (Graph) throws(TensorError) -> Void
    var testDescription: String { text }
    init(_ text: String, _ record: @escaping @Sendable (Graph) throws(TensorError) -> Void) {
      self.text = text
      self.record = record
    }
  }

  private static let mistakes: [Mistake] = [
    Mistake(
      "matmul: the left has as many columns as the right, transposed, has rows, but the shapes are [3, 4], [5, 6]"
        + " (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.input("a", [3, 4]).linear(g.parameter("w", [5, 6])) },
    Mistake(
      "add: axes counted from the last are equal, or one of them is 1, but the shapes are [2, 3], [2]"
        + " (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.input("a", [2, 3]) + g.input("b", [2]) },
    Mistake(
      "matmul: its inputs have a rank of at least 2, but the shapes are [3], [3] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.input("a", [3]).matmul(g.input("b", [3])) },
    Mistake(
      "matmul: the leading axes are equal, or one side has none, but the shapes are [2, 3, 4], [3, 4, 5]"
        + " (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.input("a", [2, 3, 4]).matmul(g.input("b", [3, 4, 5])) },
    Mistake("sum: there are the axes [2], but the shape is [4, 5] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [4, 5]).sum([2])
    },
    Mistake("sum: there are the axes [-1], but the shape is [] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.constant(1).layerNorm()
    },
    Mistake("reshape: it takes the elements of [4, -3], but the shape is [3, 4] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [3, 4]).reshaped([4, -3])
    },
    Mistake("permute: the order [0, 0] names each axis once, but the shape is [3, 4] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [3, 4]).permuted([0, 0])
    },
    Mistake("slice: axis 1 has 3 elements from element 2, but the shape is [3, 4] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [3, 4]).sliced(axis: 1, from: 2, count: 3)
    },
    Mistake("slice: there is an axis 2, but the shape is [3, 4] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [3, 4]).sliced(axis: 2, from: 0, count: 1)
    },
    Mistake(
      "concatenate: all are alike but along axis 0, but the shapes are [3, 4], [3, 5] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try Tensor.concatenated([g.input("a", [3, 4]), g.input("b", [3, 5])], axis: 0)
    },
    Mistake("broadcast: it can be repeated to [2, 5], but the shape is [2, 3] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [2, 3]).broadcast(to: [2, 5])
    },
    Mistake(
      "conv1d: 7 taps at dilation 3 fit into 9 samples with a padding of 0, but the shapes are [1, 2, 9], [4, 2, 7]"
        + " (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [1, 2, 9]).conv1d(g.input("w", [4, 2, 7]), dilation: 3)
    },
    Mistake(
      "conv1d: stride 0 and dilation 1 must be positive, padding 0 not negative (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [1, 2, 9]).conv1d(g.input("w", [4, 2, 3]), stride: 0)
    },
    Mistake("bias: it has a number per channel, but the shapes are [1, 4, 7], [3] (in layers.3.mlp)") {
      (g) throws(TensorError) in
      _ = try g.input("a", [1, 2, 9]).conv1d(g.input("w", [4, 2, 3]), g.input("b", [3]))
    },
    Mistake(
      "attention: queries [B, H, N, D] have keys and values [B, H, M, D], but the shapes are [1, 2, 3, 4],"
        + " [1, 2, 5, 6], [1, 2, 5, 6], [1, 1, 3, 5] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      let k = try g.input("k", [1, 2, 5, 6])
      _ = try g.input("q", [1, 2, 3, 4]).attention(keys: k, values: k, mask: nil)
    },
    Mistake("frame: the last axis is as long as a window of 9, but the shape is [2, 8] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [2, 8]).framed(window: 9, hop: 3)
    },
    Mistake(
      "gather: numbers are float32 and indices int32, but the types are float32, float32 (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.parameter("t", [3, 4]).rows(at: g.input("i", [2])) },
    Mistake("exp: its inputs are float32, but the type is int32 (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("i", [2], .int32).exp()
    },
    Mistake("dropout: a share of 1.0 is not in [0, 1) (in layers.3.mlp)") {
      (g) throws(TensorError) in
      _ = try g.input("a", [2]).dropout(1, key: g.input("k", [2], .int32), stream: 0)
    },
    Mistake("parameter 'w': it has one shape, but the shapes are [2], [3] (in layers.3.mlp)") {
      (g) throws(TensorError) in
      _ = try g.parameter("w", [2])
      _ = try g.parameter("w", [3])
    },
    Mistake("input 'x': it has one type, but the types are float32, int32 (in layers.3.mlp)") {
      (g) throws(TensorError) in
      _ = try g.input("x", [2])
      _ = try g.input("x", [2], .int32)
    },
    Mistake("input 'x': no dimension is negative or overflows, but the shape is [-1] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("x", [-1])
    },
    Mistake("constant: 3 values are given, but the shape is [2] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.constant([1, 2, 3], [2])
    },
    Mistake(
      "conv2d: x [B, in, H, W] has a weight [out, in / 2, KH, KW], 2 dividing out, but the shapes are [1, 4, 5, 5],"
        + " [6, 4, 3, 3] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [1, 4, 5, 5]).conv2d(
        g.input("w", [6, 4, 3, 3]), nil, ConvolutionShape2D(groups: 2))
    },
    Mistake(
      "conv2d: stride, padding and dilation have two numbers each (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [1, 4, 5, 5]).conv2d(
        g.input("w", [6, 4, 3, 3]), nil, ConvolutionShape2D(stride: [1]))
    },
    Mistake(
      "conv2d: 3 taps at dilation 4 fit into 5 samples with a padding of 1, but the shapes are [1, 1, 9, 5],"
        + " [1, 1, 3, 3] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [1, 1, 9, 5]).conv2d(
        g.input("w", [1, 1, 3, 3]), nil, ConvolutionShape2D(padding: [1, 1], dilation: [4, 4]))
    },
    Mistake("group norm: its channels are 4 equal groups, but the shape is [2, 6, 3] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [2, 6, 3]).groupNorm(4)
    },
    Mistake("max: there is an element to take, but the shape is [2, 0] (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [2, 0]).largest([1])
    },
    Mistake(
      "frame: the last axis is as long as a window of 16, but the shape is [2, 9] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      _ = try g.input("a", [2, 9]).stft(FrameShape(size: 16, hop: 4, isCentered: false))
    },
    Mistake("one-hot: indices are int32, but the type is float32 (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.input("a", [2]).oneHot(3)
    },
    Mistake(
      "max-pool: a window of [4, 4] fits, with a padding of [0, 0], but the shapes are [2, 3], [2, 3]"
        + " (in layers.3.mlp)"
    ) { (g) throws(TensorError) in _ = try g.input("a", [2, 3]).maxPool2d(PoolShape([4, 4])) },
    Mistake("assign: only a parameter can be assigned to (in layers.3.mlp)") {
      (g) throws(TensorError) in try g.assign(g.input("x", [2]), g.input("x", [2]))
    },
    Mistake(
      "gradients: the value that is differentiated is a scalar, but the shape is [2] (in layers.3.mlp)"
    ) { (g) throws(TensorError) in
      let x = try g.input("x", [2])
      _ = try g.gradients(of: x, withRespectTo: [x])
    },
    Mistake("exp: an input belongs to another graph (in layers.3.mlp)") {
      (g) throws(TensorError) in _ = try g.apply(Unary(.exp), [Graph().input("x", [2])])
    },
  ]

  @Test(arguments: mistakes)
  private func aMistakeIsAnErrorThatSaysWhatAndWhere(_ mistake: Mistake) {
    #expect(message(mistake.record) == mistake.text)
  }

  @Test func anOpRefusesEveryNumberOfInputsButItsOwn() {
    for test in OpCase.all where !(test.op is Concatenate) {
      for count in [0, test.shapes.count - 1, test.shapes.count + 1] where count >= 0 {
        let shapes = Array((test.shapes + [[2]]).prefix(count))
        #expect(throws: TensorError.self, "\(test.op.name) of \(count)") { try test.op.outputShapes(shapes) }
      }
    }
  }

  @Test func aMissingGradientRuleNamesTheModuleThatNeedsIt() throws {
    let graph = Graph()
    let x = try graph.input("x", [1, 1, 2, 4])
    let y = try graph.scope("self_attn") { () throws(TensorError) in
      try x.attention(keys: x, values: x, mask: nil)
    }
    let first = try graph.gradients(of: y.total(), withRespectTo: [x])[0]
    let error = #expect(throws: TensorError.self) {
      try graph.gradients(of: first.total(), withRespectTo: [x])
    }
    #expect(
      error?.description
        == "attention-back: there is no second derivative; record attention as matmul, softmax and matmul"
        + " (in self_attn)")
  }

  @Test func memoryThatCannotBeHadIsAnErrorThatNamesTheValue() throws {
    let graph = Graph()
    let x = try graph.input("x", [1, 1])
    let y = try graph.scope("decoder") { () throws(TensorError) in
      try x.broadcast(to: [1 << 24, 1 << 20]).exp()
    }
    let error = #expect(throws: TensorError.self) {
      try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    }
    let text = error?.description ?? ""
    #expect(text.hasPrefix("out of memory: ") && text.contains("MiB more were needed"))
    #expect(text.contains("the largest being ") && text.hasSuffix("[16777216, 1048576] in decoder"))

    let table = Graph()
    let big = try table.input("prompt", [1 << 44])
    let second = #expect(throws: TensorError.self) {
      try Program(table, outputs: ["y": big.total()], parameters: ParameterStore(CPUBackend()))
    }
    #expect(second?.description == "out of memory: 67108864 MiB more were needed for input 'prompt'")
  }

  @Test func stepsOfAGradientBelongToTheModuleThatItIsOf() throws {
    let graph = Graph()
    let x = try graph.input("x", [3])
    let y = try graph.scope("post") { () throws(TensorError) in try x.sin() }
    let gradient = try graph.gradients(of: y.square().total(), withRespectTo: [x])[0]
    let program = try Program(graph, outputs: ["g": gradient], parameters: ParameterStore(CPUBackend()))
    let cosine = program.listing.split(separator: "\n").first { $0.contains("cos ") }
    #expect(cosine?.hasSuffix(" post") == true, "\(program.listing)")
  }
}

/// An op that no backend knows.
private struct Unknown: Op {
  let name = "unknown"
  func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] { inputs }
  func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] { [nil] }
  func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { inputs }
}

@Suite struct BackendErrorTests {
  @Test func anOpWithoutAKernelIsNamedWithItsModule() throws {
    let graph = Graph()
    let y = try graph.scope("head") { () throws(TensorError) in
      try graph.apply(Unknown(), [graph.input("x", [2])])[0]
    }
    let error = #expect(throws: TensorError.self) {
      try Program(graph, outputs: ["y": y], parameters: ParameterStore(CPUBackend()))
    }
    #expect(error?.description == "unknown: the blas backend has no kernel for it (in head)")
  }

  @Test func theMemoryOfAnotherDeviceIsRefused() throws {
    struct Elsewhere: Backend {
      let name = "elsewhere"
      func makeBuffer(_ count: Int) throws -> any DeviceBuffer { Memory(count: count) }
      func prepare(_ steps: [Step]) throws -> any PreparedSteps { try CPUBackend().prepare(steps) }
    }
    final class Memory: DeviceBuffer {
      let count: Int
      init(count: Int) { self.count = count }
      func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {}
      func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {}
    }
    let graph = Graph()
    let y = try graph.input("x", [2]).exp()
    #expect(throws: TensorError.self) {
      try Program(graph, outputs: ["y": y], parameters: ParameterStore(Elsewhere()))
    }
  }
}
