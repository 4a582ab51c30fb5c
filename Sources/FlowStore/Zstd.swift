import CZstd
import FlowCore
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

  /// Compresses what is left of the file `input` into the file `output`, a piece at a time, and digests it on the way.
  static func compress(from input: Int32, to output: Int32, level: Int32 = 1) throws(StoreError) -> (
    digest: Digest, size: Int
  ) {
    guard let context = ZSTD_createCCtx() else { throw .outOfMemory }
    defer { ZSTD_freeCCtx(context) }
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    // With its size in the frame, whoever reads it whole knows what to reserve. A file that grows meanwhile is an error.
    var status = stat()
    guard fstat(input, &status) == 0 else { throw .unreadable(String(cString: strerror(errno))) }
    ZSTD_CCtx_setPledgedSrcSize(context, UInt64(status.st_size))
    var from = [UInt8](repeating: 0, count: 1 << 20)
    var to = [UInt8](repeating: 0, count: ZSTD_CStreamOutSize())
    var hasher = SHA256()
    var size = 0
    while true {
      let count = try Descriptor.read(input, &from)
      from.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
      size += count
      let mode = count == 0 ? ZSTD_e_end : ZSTD_e_continue
      var source = ZSTD_inBuffer(src: nil, size: count, pos: 0)
      var isDone = false
      while !isDone {
        var written = 0
        var left = 0
        from.withUnsafeBytes { from in
          to.withUnsafeMutableBytes { to in
            source.src = from.baseAddress
            var target = ZSTD_outBuffer(dst: to.baseAddress, size: to.count, pos: 0)
            left = ZSTD_compressStream2(context, &target, &source, mode)
            written = target.pos
          }
        }
        guard ZSTD_isError(left) == 0 else { throw .compression(String(cString: ZSTD_getErrorName(left))) }
        try Descriptor.write(output, to[..<written])
        isDone = count == 0 ? left == 0 : source.pos == source.size
      }
      if count == 0 { return (hasher.finish(), size) }
    }
  }

  /// Decompresses the frame in the file `input` into the file `output`, a piece at a time; the digest of what it held, or
  /// `nil` when it is damaged.
  static func decompress(from input: Int32, to output: Int32) throws(StoreError) -> Digest? {
    guard let context = ZSTD_createDCtx() else { throw .outOfMemory }
    defer { ZSTD_freeDCtx(context) }
    var from = [UInt8](repeating: 0, count: ZSTD_DStreamInSize())
    var to = [UInt8](repeating: 0, count: 1 << 20)
    var hasher = SHA256()
    var left = 1
    while true {
      let count = try Descriptor.read(input, &from)
      if count == 0 { return left == 0 ? hasher.finish() : nil }
      var source = ZSTD_inBuffer(src: nil, size: count, pos: 0)
      while source.pos < source.size {
        var written = 0
        from.withUnsafeBytes { from in
          to.withUnsafeMutableBytes { to in
            source.src = from.baseAddress
            var target = ZSTD_outBuffer(dst: to.baseAddress, size: to.count, pos: 0)
            left = ZSTD_decompressStream(context, &target, &source)
            written = target.pos
          }
        }
        if ZSTD_isError(left) != 0 { return nil }
        to.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<written])) }
        try Descriptor.write(output, to[..<written])
      }
    }
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
