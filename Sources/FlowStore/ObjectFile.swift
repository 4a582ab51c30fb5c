import FlowCore
import Foundation

/// The file of an object: `FLW1`, the size of what it holds (8 bytes), then pieces until that size is reached. Objects of
/// older stores are one zstd frame.
enum ObjectFile {
  private static let magic: [UInt8] = [0x46, 0x4C, 0x57, 0x31]
  static let headSize = 12
  /// No object is larger; a header that says so is damaged.
  private static let largest = 1 << 44

  static func head(_ size: Int) -> [UInt8] {
    magic + withUnsafeBytes(of: UInt64(size).littleEndian) { Array($0) }
  }

  /// The size that a head gives; `nil` when it is none.
  private static func size(_ head: UnsafeRawBufferPointer) -> Int? {
    guard head.count >= headSize, head[..<4].elementsEqual(magic) else { return nil }
    let size = UInt64(littleEndian: head.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
    return size <= UInt64(largest) ? Int(size) : nil
  }

  /// The file of an object that holds `bytes`.
  static func encode(_ bytes: [UInt8]) throws(StoreError) -> [UInt8] {
    try Packer.lend { packer in
      var file = head(bytes.count)
      bytes.withUnsafeBytes { raw in
        let layout = PCMLayout(raw)
        var position = 0
        while position < raw.count {
          let count = min(layout?.piece(at: position) ?? Packer.most, raw.count - position)
          let piece = UnsafeRawBufferPointer(rebasing: raw[position..<position + count])
          let samples = layout.flatMap { $0.holdsSamples(at: position) ? $0 : nil }
          file.append(contentsOf: packer.pack(piece, samples))
          position += count
        }
      }
      return file
    }
  }

  /// What an object's file holds; `nil` when it is damaged. Room is made for as much as the pieces really say, never
  /// for more than `limit`.
  static func decode(_ file: [UInt8], limit: Int) throws(StoreError) -> [UInt8]? {
    if Zstd.isFrame(file) { return Zstd.decompress(file, limit: limit) }
    return try Packer.lend { packer in
      file.withUnsafeBytes { raw -> [UInt8]? in
        guard let size = size(raw), size <= limit else { return nil }
        var (position, total) = (headSize, 0)
        while position < raw.count {
          guard let piece = PieceHead(raw, at: position) else { return nil }
          position += PieceHead.size + piece.length
          total += piece.count
          guard position <= raw.count, total <= size else { return nil }
        }
        guard total == size else { return nil }
        var isWhole = true
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
          let target = UnsafeMutableRawBufferPointer(buffer)
          position = headSize
          while isWhole, position < raw.count, let piece = PieceHead(raw, at: position) {
            let from = position + PieceHead.size
            let body = UnsafeRawBufferPointer(rebasing: raw[from..<from + piece.length])
            let to = UnsafeMutableRawBufferPointer(rebasing: target[count..<count + piece.count])
            isWhole = packer.unpack(piece, body, to)
            count += piece.count
            position = from + piece.length
          }
        }
        return isWhole ? bytes : nil
      }
    }
  }

  /// Packs the open file `input` of `size` bytes into `output`, a piece at a time, and digests it on the way.
  /// - Throws: `StoreError.changed` when it has another size by then.
  static func encode(_ input: OpenFile, size: Int, to output: OpenFile, _ disk: any FileSystem)
    throws(StoreError) -> Digest
  {
    try Packer.lend { packer throws(StoreError) in
      var head = [UInt8](repeating: 0, count: min(size, 1 << 16))
      let got = head.withUnsafeMutableBytes { pread(input.descriptor, $0.baseAddress, $0.count, 0) }
      let layout = got > 0 ? head.withUnsafeBytes { PCMLayout(.init(rebasing: $0[..<got])) } : nil
      var hasher = SHA256()
      try write(ObjectFile.head(size), output, disk)
      let reader = PieceReader(input, disk, size: size) { layout?.piece(at: $0) ?? Packer.most }
      defer { reader.end() }
      var position = 0
      while let piece = try reader.next() {
        hasher.update(piece)
        let samples = layout.flatMap { $0.holdsSamples(at: position) ? $0 : nil }
        position += piece.count
        guard position <= size else { throw .changed(input.path) }
        do throws(FileError) { try disk.writeAll(output, packer.pack(piece, samples)) } catch {
          throw StoreError(error)
        }
      }
      guard position == size else { throw .changed(input.path) }
      return hasher.finish()
    }
  }

  /// Unpacks the open object file `input` into `output`, a piece at a time; the digest of what it held, or `nil` when it
  /// is damaged or holds more than `limit` bytes.
  static func decode(_ input: OpenFile, to output: OpenFile?, limit: Int, _ disk: any FileSystem)
    throws(StoreError) -> Digest?
  {
    do throws(FileError) {
      let head = UnsafeMutableRawBufferPointer.allocate(byteCount: headSize, alignment: 8)
      defer { head.deallocate() }
      let got = try disk.fill(input, head)
      let start = UnsafeRawBufferPointer(rebasing: head[..<got])
      if Zstd.isFrame(start) { return try Zstd.decompress(input, start, to: output, limit: limit, disk) }
      guard let size = size(start), size <= limit else { return nil }
      return try pieces(input, size, output, disk)
    } catch { throw StoreError(error) }
  }

  private static func pieces(_ input: OpenFile, _ size: Int, _ output: OpenFile?, _ disk: any FileSystem)
    throws(FileError) -> Digest?
  {
    var failure: FileError?
    let packed = UnsafeMutableRawBufferPointer.allocate(
      byteCount: PieceHead.size + Packer.most, alignment: 64)
    defer { packed.deallocate() }
    var hasher = SHA256()
    let lent = try? Packer.lend { packer -> Bool in
      var total = 0
      do throws(FileError) {
        while true {
          let head = UnsafeMutableRawBufferPointer(rebasing: packed[..<PieceHead.size])
          let got = try disk.fill(input, head)
          if got == 0 { return total == size }
          guard got == PieceHead.size, let piece = PieceHead(UnsafeRawBufferPointer(head)) else {
            return false
          }
          total += piece.count
          guard total <= size else { return false }
          let body = UnsafeMutableRawBufferPointer(rebasing: packed[..<piece.length])
          guard try disk.fill(input, body) == piece.length else { return false }
          let room = packer.room(piece.count)
          guard packer.unpack(piece, UnsafeRawBufferPointer(body), room) else { return false }
          hasher.update(UnsafeRawBufferPointer(room))
          if let output { try disk.writeAll(output, UnsafeRawBufferPointer(room)) }
        }
      } catch {
        failure = error
        return false
      }
    }
    if let failure { throw failure }
    guard let lent else { throw FileError("allocate", input.path, ENOMEM) }
    return lent ? hasher.finish() : nil
  }

  private static func write(_ bytes: [UInt8], _ file: OpenFile, _ disk: any FileSystem) throws(StoreError) {
    var failure: FileError?
    bytes.withUnsafeBytes { raw in
      do throws(FileError) { try disk.writeAll(file, raw) } catch { failure = error }
    }
    if let failure { throw StoreError(failure) }
  }
}
