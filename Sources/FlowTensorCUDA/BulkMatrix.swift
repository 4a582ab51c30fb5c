import CCUDA
import FlowTensor

/// Heads' rows of bfloat16 in memory, as Hopper's copy engine takes tiles of 64 tokens by 64 columns from them.
struct BulkMatrix: Sendable {
  let address: UInt64
  /// Columns, tokens, heads, batches.
  let sizes: [Int]
  /// From one token, head and batch to the next, in elements.
  let strides: [Int]

  /// What the driver makes of it for a kernel: a `CUtensorMap`, in words.
  /// - Throws: `TensorError.device`.
  func map() throws(TensorError) -> [UInt64] {
    let map = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 64)
    defer { map.deallocate() }
    // A matrix without rows is never read.
    let (sizes, bytes) = (sizes.map { UInt64(max(1, $0)) }, strides.map { UInt64($0 * 2) })
    let (boxes, steps): ([UInt32], [UInt32]) = ([64, 64, 1, 1], [1, 1, 1, 1])
    // CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, no interleaving, CU_TENSOR_MAP_SWIZZLE_128B, ..._L2_PROMOTION_L2_256B, zeros
    let status = flow_cuTensorMapEncodeTiled(
      map, 9, 4, UnsafeMutableRawPointer(bitPattern: UInt(address)), sizes, bytes, boxes, steps, 0, 3, 3, 0)
    guard status != Int32(FLOW_CUDA_MISSING) else {
      throw .device("the driver knows no tensor maps: it needs to be of CUDA 12 or later")
    }
    try CUDADevice.check(status, "telling the copy engine of a matrix")
    return (0..<16).map { map.load(fromByteOffset: $0 * 8, as: UInt64.self) }
  }
}
