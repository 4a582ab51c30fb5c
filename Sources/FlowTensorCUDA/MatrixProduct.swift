import CCUDA
import FlowTensor

/// A matrix product by cuBLASLt: its description, made once, and its algorithm: the fastest of those with the bits of the
/// one that the library's heuristic holds for the best, so that trials don't change what is computed.
final class MatrixProduct {
  /// Where it finds its operands, what is added, and puts its result.
  struct Memory {
    var a, b, added, result: UInt64
  }

  let device: CUDADevice
  private var description: UnsafeMutableRawPointer?
  /// Of a, b and the result, as cuBLASLt sees them (columns first).
  private var layouts: [UnsafeMutableRawPointer?] = [nil, nil, nil]
  private var choice = flow_lt_choice()
  private let memory: Memory
  private let factors: (product: Float, added: Float)
  /// Whether something is added to it.
  var isAdded: Bool { factors.added != 0 }

  /// Bytes of scratch memory that a product may take.
  private static let most = 64 << 20
  /// The algorithms that the heuristic is asked for.
  private static let mostAlgorithms = 16
  /// Multiplications of a product that is worth a trial.
  private static let leastTried = 1 << 20
  /// Bytes of scratch memory that it takes.
  var workspace: Int { choice.workspace }

  /// - Parameters:
  ///   - inputs: [.., M, K] and [.., K, N], or transposed, as `op` says; what follows is added to the product, and lies in the
  ///     result's memory already if it is of another type.
  /// - Throws: `TensorError.device` when the library has no algorithm.
  init(
    _ backend: CUDABackend, _ op: MatMul, _ inputs: [Operand], _ output: Operand, scale: Float = 1
  ) throws(TensorError) {
    device = backend.device
    let size = op.sizes(inputs[0].shape, inputs[1].shape)
    // Rows first here are columns first there: the result's transpose is bᵀ aᵀ.
    let added = inputs.dropFirst(2).first { $0.dtype == output.dtype } ?? output
    memory = Memory(
      a: inputs[1].address, b: inputs[0].address, added: added.address, result: output.address)
    factors = (scale, inputs.count > 2 ? 1 : 0)
    // float32 operands may be rounded to 10 bits (TF32). CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F; CUDA_R_32F
    let compute: Int32 = backend.precision != .float32 && inputs[0].dtype == .float32 ? 77 : 68
    try check(flow_cublasLtMatmulDescCreate(&description, compute, 0))
    // CUBLASLT_MATMUL_DESC_TRANSA, _TRANSB
    for (attribute, transposed) in [(Int32(3), op.transposeB), (4, op.transposeA)] {
      var value: Int32 = transposed ? 1 : 0
      try check(flow_cublasLtMatmulDescSetAttribute(description, attribute, &value, 4))
    }
    func layout(_ type: DType, _ rows: Int, _ columns: Int, _ stride: Int) throws(TensorError)
      -> UnsafeMutableRawPointer?
    {
      var layout: UnsafeMutableRawPointer?
      // CUDA_R_16BF, CUDA_R_32F
      let code: Int32 = type == .bfloat16 ? 14 : 0
      try check(
        flow_cublasLtMatrixLayoutCreate(&layout, code, UInt64(columns), UInt64(rows), Int64(columns)))
      if size.batch > 1 {
        var (count, step) = (Int32(size.batch), Int64(stride))
        // CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, _STRIDED_BATCH_OFFSET
        try check(flow_cublasLtMatrixLayoutSetAttribute(layout, 5, &count, 4))
        try check(flow_cublasLtMatrixLayoutSetAttribute(layout, 6, &step, 8))
      }
      return layout
    }
    let (m, n, k) = (size.m, size.n, size.k)
    layouts[0] = try layout(inputs[1].dtype, op.transposeB ? n : k, op.transposeB ? k : n, size.strideB)
    layouts[1] = try layout(inputs[0].dtype, op.transposeA ? k : m, op.transposeA ? m : k, size.strideA)
    layouts[2] = try layout(output.dtype, m, n, m * n)
    let offered = try offers()
    guard let first = offered.first else {
      throw .device("cuBLASLt has no way to compute [\(m), \(k)] · [\(k), \(n)], \(size.batch) times")
    }
    choice = first
    guard backend.trials.isOn, offered.count > 1, m * n * k * size.batch >= MatrixProduct.leastTried else {
      return
    }
    // All that decides which algorithms there are, and their times.
    let types = [inputs[0].dtype, inputs[1].dtype, output.dtype].map { "\($0)" }.joined(separator: " ")
    let strides = size.batch > 1 ? "\(size.batch) times, \(size.strideA) and \(size.strideB) apart" : "once"
    let kind =
      "[\(m) \(k)]\(op.transposeA ? "T" : "") [\(k) \(n)]\(op.transposeB ? "T" : "") \(strides), \(types), \(compute)"
      + (isAdded ? ", added to" : "")
    if let known = backend.trials.words(kind) {
      // One that the library doesn't offer is none of this product.
      if let same = offered.first(where: { $0.words == known }) {
        choice = same
        return
      }
    }
    let trial = ProductTrial(product: self, op: op, inputs: [inputs[0], inputs[1]], output: output)
    let fastest = try backend.trials.timed { limit throws(TensorError) in
      try trial.fastest(of: offered, backend.compiler, within: limit)
    }
    if let fastest {
      choice = offered[fastest]
      backend.trials.remember(kind, choice.words)
    }
  }

  /// The algorithms that the heuristic offers, the one that it holds for the fastest first.
  func offers() throws(TensorError) -> [flow_lt_choice] {
    var preference: UnsafeMutableRawPointer?
    try check(flow_cublasLtMatmulPreferenceCreate(&preference))
    defer { _ = flow_cublasLtMatmulPreferenceDestroy(preference) }
    var bytes = UInt64(MatrixProduct.most)
    // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, _MIN_ALIGNMENT_A_BYTES to _D_BYTES
    try check(flow_cublasLtMatmulPreferenceSetAttribute(preference, 1, &bytes, 8))
    var alignment: UInt32 = 64
    for attribute: Int32 in 5...8 {
      try check(flow_cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, 4))
    }
    var found: Int32 = 0
    var choices = [flow_lt_choice](repeating: flow_lt_choice(), count: MatrixProduct.mostAlgorithms)
    let status = flow_cublasLtMatmulAlgoGetHeuristic(
      device.products, description, layouts[0], layouts[1], layouts[2], layouts[2], preference,
      Int32(choices.count), &choices, &found)
    return status == 0 ? choices.prefix(Int(found)).filter { $0.state == 0 } : []
  }

  deinit {
    for layout in layouts where layout != nil { flow_cublasLtMatrixLayoutDestroy(layout) }
    if description != nil { flow_cublasLtMatmulDescDestroy(description) }
  }

  /// Puts the product on the device's stream; `scratch` is of `workspace` bytes.
  func enqueue(scratch: UInt64) throws(TensorError) { try check(enqueue(choice, memory, scratch: scratch)) }

  /// Puts a product like this one, by algorithm `choice` in `memory`, on the device's stream: cuBLASLt's status.
  func enqueue(_ choice: flow_lt_choice, _ memory: Memory, scratch: UInt64) -> Int32 {
    var (alpha, beta) = factors
    var choice = choice
    let bytes = choice.workspace
    return withUnsafePointer(to: &choice.algorithm) { algorithm in
      flow_cublasLtMatmul(
        device.products, description, &alpha, memory.a, layouts[0], memory.b, layouts[1], &beta,
        memory.added, layouts[2], memory.result, layouts[2], algorithm, scratch, bytes, device.stream)
    }
  }

  private func check(_ status: Int32) throws(TensorError) {
    if status != 0 { throw .device("cuBLASLt: a matrix product failed with status \(status)") }
  }
}

extension flow_lt_choice {
  /// What the algorithm is.
  var words: [UInt64] {
    withUnsafeBytes(of: algorithm) { Array($0.bindMemory(to: UInt64.self)) }
  }
}
