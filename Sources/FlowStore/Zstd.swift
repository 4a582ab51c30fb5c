import CZstd
import Foundation

/// Zstandard frames with a checksum.
enum Zstd {
  /// One frame that holds `bytes`.
  static func compress(_ bytes: UnsafeRawBufferPointer, level: Int32 = 1) throws(StoreError) -> [UInt8] {
    guard let context = ZSTD_createCCtx() else { throw .outOfMemory }
    defer { ZSTD_freeCCtx(context) }
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    var output = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
    let size = ZSTD_compress2(context, &output, output.count, bytes.baseAddress, bytes.count)
    guard ZSTD_isError(size) == 0 else { throw .compression(String(cString: ZSTD_getErrorName(size))) }
    return Array(output[..<size])
  }

  /// What a frame holds; `nil` when it is damaged or larger than `limit`.
  static func decompress(_ frame: [UInt8], limit: Int = 1 << 34) -> [UInt8]? {
    let size = ZSTD_getFrameContentSize(frame, frame.count)
    guard size < UInt64(limit) else { return nil }
    var output = [UInt8](repeating: 0, count: Int(size))
    let got = ZSTD_decompress(&output, output.count, frame, frame.count)
    guard ZSTD_isError(got) == 0, got == output.count else { return nil }
    return output
  }
}
