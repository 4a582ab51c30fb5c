import CZlib
public import Foundation

/// Reads NumPy's `.npz` archives: a zip of `.npy` arrays, stored or deflated.
public struct Npz {
  /// An array: its shape and its elements as doubles.
  public struct Array: Sendable {
    /// Dimensions.
    public let shape: [Int]
    /// Elements, row-major.
    public let values: [Double]
  }

  /// What is wrong with an archive.
  public struct Failure: Error { let reason: String }

  /// The arrays by name.
  public let arrays: [String: Array]

  /// Reads the archive at `url`.
  public init(_ url: URL) throws {
    let data = [UInt8](try Data(contentsOf: url))
    func le(_ at: Int, _ count: Int) throws -> Int {
      guard at >= 0, at + count <= data.count else { throw Failure(reason: "truncated") }
      return (0..<count).reduce(0) { $0 | Int(data[at + $1]) << (8 * $1) }
    }
    guard
      let end = stride(from: data.count - 22, through: max(0, data.count - 65_600), by: -1).first(where: {
        data[$0] == 0x50 && data[$0 + 1] == 0x4B && data[$0 + 2] == 5 && data[$0 + 3] == 6
      })
    else { throw Failure(reason: "no zip directory") }
    var entry = try le(end + 16, 4)
    var found: [String: Array] = [:]
    for _ in 0..<(try le(end + 10, 2)) {
      let (method, packed, size) = (try le(entry + 10, 2), try le(entry + 20, 4), try le(entry + 24, 4))
      let (nameLength, extra, comment) = (try le(entry + 28, 2), try le(entry + 30, 2), try le(entry + 32, 2))
      let local = try le(entry + 42, 4)
      let name = String(decoding: data[entry + 46..<entry + 46 + nameLength], as: UTF8.self)
      let start = local + 30 + (try le(local + 26, 2)) + (try le(local + 28, 2))
      guard start + packed <= data.count else { throw Failure(reason: "truncated") }
      let body = Swift.Array(data[start..<start + packed])
      let bytes = method == 0 ? body : try Npz.inflate(body, size)
      found[String(name.dropLast(4))] = try Npz.parse(bytes)
      entry += 46 + nameLength + extra + comment
    }
    arrays = found
  }

  /// The array `name`.
  public subscript(name: String) -> Array? { arrays[name] }

  private static func inflate(_ body: [UInt8], _ size: Int) throws -> [UInt8] {
    var output = [UInt8](repeating: 0, count: size)
    var input = body
    var stream = z_stream()
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw Failure(reason: "zlib")
    }
    defer { inflateEnd(&stream) }
    let status = input.withUnsafeMutableBufferPointer { from in
      output.withUnsafeMutableBufferPointer { to in
        stream.next_in = from.baseAddress
        stream.avail_in = uInt(from.count)
        stream.next_out = to.baseAddress
        stream.avail_out = uInt(to.count)
        return CZlib.inflate(&stream, Z_FINISH)
      }
    }
    guard status == Z_STREAM_END else { throw Failure(reason: "deflate data") }
    return output
  }

  private static func parse(_ bytes: [UInt8]) throws -> Array {
    guard bytes.count > 12 else { throw Failure(reason: "npy header") }
    let wide = bytes[6] > 1
    let length = (0..<(wide ? 4 : 2)).reduce(0) { $0 | Int(bytes[8 + $1]) << (8 * $1) }
    let start = (wide ? 12 : 10) + length
    let header = String(decoding: bytes[(wide ? 12 : 10)..<start], as: UTF8.self)
    func between(_ a: String, _ b: String) -> String {
      guard let i = header.range(of: a), let j = header[i.upperBound...].range(of: b) else { return "" }
      return String(header[i.upperBound..<j.lowerBound])
    }
    let shape = between("'shape': (", ")").split(separator: ",").compactMap {
      Int($0.trimmingCharacters(in: .whitespaces))
    }
    let type = between("'descr': '", "'")
    guard between("'fortran_order': ", ",") == "False" else { throw Failure(reason: "Fortran order") }
    let count = shape.reduce(1, *)
    func read<T>(_: T.Type, _ convert: (T) -> Double) -> [Double] {
      bytes.withUnsafeBytes { raw in
        (0..<count).map {
          convert(raw.loadUnaligned(fromByteOffset: start + $0 * MemoryLayout<T>.size, as: T.self))
        }
      }
    }
    switch type {
    case "<f4": return Array(shape: shape, values: read(Float.self) { Double($0) })
    case "<f2": return Array(shape: shape, values: read(UInt16.self) { Double(half($0)) })
    case "<f8": return Array(shape: shape, values: read(Double.self) { $0 })
    case "|b1", "|u1": return Array(shape: shape, values: read(UInt8.self) { Double($0) })
    case "<i2": return Array(shape: shape, values: read(Int16.self) { Double($0) })
    case "<u2": return Array(shape: shape, values: read(UInt16.self) { Double($0) })
    case "<i4": return Array(shape: shape, values: read(Int32.self) { Double($0) })
    case "<i8": return Array(shape: shape, values: read(Int64.self) { Double($0) })
    default: throw Failure(reason: "type \(type)")
    }
  }

  private static func half(_ h: UInt16) -> Double {
    let (sign, exponent, fraction) = (h & 0x8000 == 0 ? 1.0 : -1.0, Int(h >> 10) & 31, Double(h & 1023))
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default:
      let power = Double(sign: .plus, exponent: exponent - 15, significand: 1)
      return sign * (1 + fraction / 1024) * power
    }
  }
}
