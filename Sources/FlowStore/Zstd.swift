import CZstd
import FlowCore
import Foundation

/// The zstd frames that objects of older stores are.
enum Zstd {
  /// Whether `bytes` begin as a frame does.
  static func isFrame(_ bytes: some Collection<UInt8>) -> Bool {
    bytes.prefix(4).elementsEqual([0x28, 0xB5, 0x2F, 0xFD])
  }

  /// What a frame holds; `nil` when it is damaged or larger than `limit`.
  static func decompress(_ frame: [UInt8], limit: Int) -> [UInt8]? {
    let size = ZSTD_getFrameContentSize(frame, frame.count)
    guard size <= UInt64(limit) else { return nil }
    // A frame's block holds 128 KiB at most and takes 3 bytes at least: a size beyond that is a lie.
    guard size / (128 << 10) <= UInt64(frame.count / 3) else { return nil }
    var output = [UInt8](repeating: 0, count: Int(size))
    let got = ZSTD_decompress(&output, output.count, frame, frame.count)
    guard ZSTD_isError(got) == 0, got == output.count else { return nil }
    return output
  }

  /// Decompresses the frame that begins with `head` and goes on in `input` into `output`, a piece at a time; the digest of
  /// what it held, or `nil` when it is damaged or larger than `limit`.
  static func decompress(
    _ input: OpenFile, _ head: UnsafeRawBufferPointer, to output: OpenFile?, limit: Int,
    _ disk: any FileSystem
  ) throws(FileError) -> Digest? {
    guard let context = ZSTD_createDCtx() else { throw FileError("allocate", input.path, ENOMEM) }
    defer { ZSTD_freeDCtx(context) }
    let from = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 64)
    let to = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer {
      from.deallocate()
      to.deallocate()
    }
    from.copyMemory(from: head)
    var count = head.count
    var hasher = SHA256()
    var (left, total) = (1, 0)
    while count > 0 {
      var source = ZSTD_inBuffer(src: UnsafeRawPointer(from.baseAddress), size: count, pos: 0)
      while source.pos < source.size {
        var target = ZSTD_outBuffer(dst: to.baseAddress, size: to.count, pos: 0)
        left = ZSTD_decompressStream(context, &target, &source)
        total += target.pos
        if ZSTD_isError(left) != 0 || total > limit { return nil }
        let made = UnsafeRawBufferPointer(rebasing: to[..<target.pos])
        hasher.update(made)
        if let output { try disk.writeAll(output, made) }
      }
      count = try disk.fill(input, from)
    }
    return left == 0 ? hasher.finish() : nil
  }
}
