import CCodec
import FlowCore
import Foundation
import Synchronization

/// Packs pieces of up to 1 MiB, each in the way that suits it. One thread at a time.
final class Packer {
  /// The most bytes of a piece, and the most channels told apart.
  static let most = Int(FLOW_CHUNK_BYTES), channels = Int(FLOW_CODEC_CHANNELS)

  private let codec: OpaquePointer
  /// The packed piece with the eight bytes before it, or the unpacked one.
  private let buffer: UnsafeMutableRawBufferPointer

  private init?() {
    guard let codec = flow_codec_make() else { return nil }
    self.codec = codec
    buffer = .allocate(byteCount: Packer.most + 8, alignment: 64)
  }

  deinit {
    flow_codec_free(codec)
    buffer.deallocate()
  }

  /// Packers that wait for work. Making one costs as much as packing a small object.
  ///
  /// Unchecked, but safe: `lend` takes a packer out under the lock and puts it back when its one borrower is done, so no two
  /// threads ever have the same one.
  private struct Idle: @unchecked Sendable {
    var packers: [Packer] = []
  }
  private static let idle = Mutex(Idle())

  /// Lends a packer to `body`.
  static func lend<T>(_ body: (Packer) throws(StoreError) -> T) throws(StoreError) -> T {
    let waiting = idle.withLock { idle -> Idle in
      var one = Idle()
      if let packer = idle.packers.popLast() { one.packers = [packer] }
      return one
    }
    guard let packer = waiting.packers.first ?? Packer() else { throw .outOfMemory }
    nonisolated(unsafe) let returned = packer
    defer { idle.withLock { if $0.packers.count < 4 { $0.packers.append(returned) } } }
    return try body(packer)
  }

  /// A packed piece: eight bytes of lengths and method, then the body. Good until the next call.
  func pack(_ piece: UnsafeRawBufferPointer, _ layout: PCMLayout?) -> UnsafeRawBufferPointer {
    var method: UInt32 = 0
    let base = buffer.baseAddress.map { $0 + 8 }
    let length = flow_codec_pack(
      codec, piece.baseAddress, piece.count, UInt32(layout?.channels ?? 0), UInt32(layout?.width ?? 0), base,
      &method)
    buffer.storeBytes(of: (UInt32(piece.count) | method << 24).littleEndian, as: UInt32.self)
    buffer.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 4, as: UInt32.self)
    return UnsafeRawBufferPointer(rebasing: buffer[..<(8 + length)])
  }

  /// Unpacks a body into `target`, all of it; whether it is whole.
  func unpack(_ piece: PieceHead, _ body: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer)
    -> Bool
  {
    flow_codec_unpack(codec, piece.method, body.baseAddress, body.count, target.baseAddress, target.count)
      == 1
  }

  /// A place for an unpacked piece of `count` bytes.
  func room(_ count: Int) -> UnsafeMutableRawBufferPointer { .init(rebasing: buffer[..<count]) }
}

/// What is written before a piece: its length, how it was packed, and its length on disk.
struct PieceHead {
  static let size = 8
  let method: UInt32
  let count: Int
  let length: Int

  /// Reads the eight bytes at `offset`; `nil` when no piece begins so.
  init?(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
    guard bytes.count - offset >= PieceHead.size else { return nil }
    let first = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    let second = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self))
    (method, count, length) = (first >> 24, Int(first & 0xFF_FFFF), Int(second))
    guard count > 0, count <= Packer.most, length > 0, length <= count else { return nil }
  }
}
