import CZlib

/// The stored entries of a zip file (PKWARE's APPNOTE 6.3), as far as torch writes them: nothing compressed or encrypted,
/// one disk, no entry over another, zip64 where sizes need it.
struct ZipArchive: Sendable {
  /// Where an entry's bytes lie, and their checksum.
  struct Entry: Sendable, Hashable {
    let range: Range<Int>
    let checksum: UInt32
  }

  /// By name.
  private(set) var entries: [String: Entry] = [:]

  /// Reads the directory of `bytes`.
  /// - Throws: `TorchError.archive`.
  init(_ bytes: UnsafeRawBufferPointer) throws(TorchError) {
    let reader = ByteReader(bytes: bytes)
    var directory = try ZipArchive.directory(reader)
    var spans: [(range: Range<Int>, name: String)] = []
    for _ in 0..<directory.count {
      let record = try ZipArchive.record(reader, &directory)
      guard entries[record.name] == nil else {
        throw .archive("the archive has two entries '\(record.name)'")
      }
      let (span, data) = try ZipArchive.place(reader, record, before: directory.start)
      entries[record.name] = Entry(range: data, checksum: record.checksum)
      spans.append((span, record.name))
    }
    guard directory.position == directory.end else {
      throw .archive("the archive's directory has \(directory.end - directory.position) bytes too many")
    }
    spans.sort { $0.range.lowerBound < $1.range.lowerBound }
    for (first, second) in zip(spans, spans.dropFirst())
    where first.range.upperBound > second.range.lowerBound {
      throw .archive("the entries '\(first.name)' and '\(second.name)' overlap")
    }
  }

  /// Whether the bytes of `entry` have its checksum.
  static func isIntact(_ entry: Entry, in bytes: UnsafeRawBufferPointer) -> Bool {
    let data = UnsafeRawBufferPointer(rebasing: bytes[entry.range]).bindMemory(to: UInt8.self)
    return crc32_z(0, data.baseAddress, data.count) == UInt(entry.checksum)
  }

  private struct Directory {
    let start: Int
    let end: Int
    let count: Int
    var position: Int
  }

  private struct Record {
    let name: String
    let rawName: [UInt8]
    let checksum: UInt32
    let size: Int
    let offset: Int
  }

  /// The directory that the end record (or zip64's) tells of.
  private static func directory(_ reader: ByteReader) throws(TorchError) -> Directory {
    let total = reader.bytes.count
    guard total >= 22, reader.u32(0) == 0x0403_4B50 else {
      let old = total > 1 && reader.bytes[0] == 0x80
      throw .archive(
        old
          ? "this is a file of torch before 1.6, not an archive; load it with torch and save it again"
          : "this is no zip archive, as torch.save writes them")
    }
    var place = total - 22
    while reader.u32(place) != 0x0605_4B50 || place + 22 + reader.u16(place + 20) != total {
      place -= 1
      guard place >= 0, total - place <= 22 + 65535 else {
        throw .archive("the archive has no end record: it was cut short, or something follows it")
      }
    }
    var (count, size, start) = (reader.u16(place + 10), reader.u32(place + 12), reader.u32(place + 16))
    guard reader.u16(place + 4) == 0 || reader.u16(place + 4) == 0xFFFF else {
      throw .archive("the archive is of several disks")
    }
    var end = place
    if place >= 20, reader.u32(place - 20) == 0x0706_4B50 {
      guard let record = Int(exactly: reader.u64(place - 12)), record >= 0, record <= place - 20 - 56,
        reader.u32(record) == 0x0606_4B50, let entries = Int(exactly: reader.u64(record + 32)),
        let bytes = Int(exactly: reader.u64(record + 40)), let offset = Int(exactly: reader.u64(record + 48))
      else { throw .archive("the archive's zip64 end record is not where it is said to be") }
      (count, size, start, end) = (entries, bytes, offset, record)
    }
    guard size >= 0, start >= 0, size <= end, start == end - size, count <= size / 46 else {
      throw .archive("the archive's directory is not where its end record says")
    }
    return Directory(start: start, end: end, count: count, position: start)
  }

  /// The directory's next record.
  private static func record(_ reader: ByteReader, _ directory: inout Directory) throws(TorchError) -> Record
  {
    let at = directory.position
    guard at + 46 <= directory.end, reader.u32(at) == 0x0201_4B50 else {
      throw .archive("the archive's directory ends before its last entry")
    }
    let (nameSize, extraSize) = (reader.u16(at + 28), reader.u16(at + 30))
    let next = at + 46 + nameSize + extraSize + reader.u16(at + 32)
    guard next <= directory.end else { throw .archive("an entry's record reaches out of the directory") }
    let rawName = Array(reader.bytes[at + 46..<at + 46 + nameSize])
    guard let name = String(validating: rawName, as: UTF8.self), !rawName.contains(0) else {
      throw .archive("the name of an entry is not UTF-8")
    }
    guard reader.u16(at + 8) & 1 == 0 else { throw .archive("the entry '\(name)' is encrypted") }
    guard reader.u16(at + 10) == 0 else {
      throw .archive("the entry '\(name)' is compressed, which torch never does")
    }
    var sizes = [reader.u32(at + 24), reader.u32(at + 20), reader.u32(at + 42)]
    if sizes.contains(0xFFFF_FFFF) {
      sizes = try wide(reader, sizes, at + 46 + nameSize..<at + 46 + nameSize + extraSize, name)
    }
    guard sizes[0] == sizes[1] else { throw .archive("the entry '\(name)' has two sizes") }
    directory.position = next
    return Record(
      name: name, rawName: rawName, checksum: UInt32(reader.u32(at + 16)), size: sizes[0], offset: sizes[2])
  }

  /// Sizes and offset with those from the zip64 field in `extra` where they don't fit into 32 bits.
  private static func wide(
    _ reader: ByteReader, _ sizes: [Int], _ extra: Range<Int>, _ name: String
  ) throws(TorchError) -> [Int] {
    var at = extra.lowerBound
    while at + 4 <= extra.upperBound {
      var field = at + 4
      let end = field + reader.u16(at + 2)
      guard end <= extra.upperBound else { break }
      if reader.u16(at) == 1 {
        var result = sizes
        for index in sizes.indices where sizes[index] == 0xFFFF_FFFF {
          guard field + 8 <= end, let value = Int(exactly: reader.u64(field)) else {
            throw .archive("the zip64 field of the entry '\(name)' is too short or too large")
          }
          result[index] = value
          field += 8
        }
        return result
      }
      at = end
    }
    throw .archive("the entry '\(name)' has no zip64 field for its sizes")
  }

  /// The span of an entry with its header, and that of its bytes.
  private static func place(
    _ reader: ByteReader, _ record: Record, before limit: Int
  ) throws(TorchError) -> (Range<Int>, Range<Int>) {
    let at = record.offset
    guard at <= limit - 30, reader.u32(at) == 0x0403_4B50 else {
      throw .archive("the entry '\(record.name)' is not where the directory says")
    }
    let (nameSize, start) = (reader.u16(at + 26), at + 30 + reader.u16(at + 26) + reader.u16(at + 28))
    guard start <= limit, record.size <= limit - start else {
      throw .archive("the entry '\(record.name)' of \(record.size) bytes reaches out of the file")
    }
    guard Array(reader.bytes[at + 30..<at + 30 + nameSize]) == record.rawName else {
      throw .archive("the entry '\(record.name)' has another name in its own header")
    }
    return (at..<start + record.size, start..<start + record.size)
  }
}

/// Little-endian numbers in bytes; 0 where there are none.
struct ByteReader {
  let bytes: UnsafeRawBufferPointer

  private func number<T: FixedWidthInteger>(_ at: Int, _: T.Type) -> T {
    guard at >= 0, at <= bytes.count - MemoryLayout<T>.size else { return 0 }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: T.self))
  }

  func u16(_ at: Int) -> Int { Int(number(at, UInt16.self)) }
  func u32(_ at: Int) -> Int { Int(number(at, UInt32.self)) }
  func u64(_ at: Int) -> UInt64 { number(at, UInt64.self) }
}
