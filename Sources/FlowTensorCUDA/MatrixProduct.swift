import CCUDA
import FlowTensor

/// A matrix product by cuBLASLt: its description, made once, and the algorithm that the library's heuristic chooses, the
/// same every time.
final class MatrixProduct {
  private let device: CUDADevice
  private var description: UnsafeMutableRawPointer?
  /// Of a, b and the result, as cuBLASLt sees them (columns first).
  private var layouts: [UnsafeMutableRawPointer?] = [nil, nil, nil]
  private var choice = flow_lt_choice()
  private let addresses: (a: UInt64, b: UInt64, added: UInt64, result: UInt64)
  private let factors: (product: Float, added: Float)

  /// Bytes of scratch memory that a product may take.
  private static let most = 64 << 20
  /// Bytes of scratch memory that it takes.
  var workspace: Int { choice.workspace }

  /// - Parameters:
  ///   - inputs: [.., M, K] and [.., K, N], or transposed, as `op` says; what follows is added to the product, and lies in the
  ///     result's memory already if it is of another type.
  ///   - allowTensorFloat: float32 operands may be rounded to 10 bits (TF32).
  /// - Throws: `TensorError.device` when the library has no algorithm.
  init(
    _ device: CUDADevice, _ op: MatMul, _ inputs: [Operand], _ output: Operand, scale: Float = 1,
    allowTensorFloat: Bool
  ) throws(TensorError) {
    self.device = device
    let size = op.sizes(inputs[0].shape, inputs[1].shape)
    // Rows first here are columns first there: the result's transpose is bᵀ aᵀ.
    let added = inputs.dropFirst(2).first { $0.dtype == output.dtype } ?? output
    addresses = (inputs[1].address, inputs[0].address, added.address, output.address)
    factors = (scale, inputs.count > 2 ? 1 : 0)
    // CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F; CUDA_R_32F
    let compute: Int32 = allowTensorFloat && inputs[0].dtype == .float32 ? 77 : 68
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
    let status = flow_cublasLtMatmulAlgoGetHeuristic(
      device.products, description, layouts[0], layouts[1], layouts[2], layouts[2], preference, 1, &choice,
      &found)
    guard status == 0, found > 0, choice.state == 0 else {
      throw .device(
        "cuBLASLt has no way to compute [\(m), \(k)] · [\(k), \(n)], \(size.batch) times (status \(status))")
    }
  }

  deinit {
    for layout in layouts where layout != nil { flow_cublasLtMatrixLayoutDestroy(layout) }
    if description != nil { flow_cublasLtMatmulDescDestroy(description) }
  }

  /// Puts the product on the device's stream; `scratch` is of `workspace` bytes.
  func enqueue(scratch: UInt64) throws(TensorError) {
    var (alpha, beta) = factors
    let bytes = workspace
    let status = withUnsafePointer(to: &choice.algorithm) { algorithm in
      flow_cublasLtMatmul(
        device.products, description, &alpha, addresses.a, layouts[0], addresses.b, layouts[1], &beta,
        addresses.added, layouts[2], addresses.result, layouts[2], algorithm, scratch, bytes,
        device.stream)
    }
    try check(status)
  }

  private func check(_ status: Int32) throws(TensorError) {
    if status != 0 { throw .device("cuBLASLt: a matrix product failed with status \(status)") }
  }
}
