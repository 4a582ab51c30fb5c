import CCrypto

/// SHA-256 of some bytes: the identity of everything flow stores.
public struct Digest: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The 64 lower-case hexadecimal characters.
  public let hex: String

  /// Takes 64 lower-case hexadecimal characters; anything else is `nil`.
  public init?(hex: String) {
    let valid =
      hex.utf8.count == 64 && hex.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    guard valid else { return nil }
    self.hex = hex
  }

  /// The digest of `bytes`.
  public init(of bytes: some Sequence<UInt8>) {
    var hasher = SHA256()
    hasher.update(bytes)
    self = hasher.finish()
  }

  /// The digest of the UTF-8 of `text`.
  public init(of text: String) { self.init(of: text.utf8) }

  fileprivate init(raw: [UInt8]) {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(64)
    for byte in raw {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    hex = String(decoding: text, as: UTF8.self)
  }

  /// The first 12 characters, for people to read.
  public var short: String { String(hex.prefix(12)) }

  /// The message, for a reader.
  public var description: String { hex }

  /// The order of the bytes.
  public static func < (a: Digest, b: Digest) -> Bool { a.hex < b.hex }
}

extension Digest: Codable {
  /// Reads the value as itself, without a wrapper.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let digest = Digest(hex: text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a SHA-256 digest: \(text)")
    }
    self = digest
  }

  /// Writes the value as itself, without a wrapper.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(hex)
  }
}

/// An incremental SHA-256 (FIPS 180-4), by libcrypto, which uses the processor's SHA instructions.
public struct SHA256: ~Copyable {
  private let context: OpaquePointer?

  /// An empty hash.
  public init() {
    context = EVP_MD_CTX_new()
    EVP_DigestInit_ex(context, EVP_sha256(), nil)
  }

  deinit { EVP_MD_CTX_free(context) }

  /// Appends `bytes`.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    EVP_DigestUpdate(context, base, bytes.count)
  }

  /// Appends `bytes`.
  public mutating func update(_ bytes: some Sequence<UInt8>) {
    let done: Void? = bytes.withContiguousStorageIfAvailable { buffer in
      guard let base = buffer.baseAddress else { return }
      EVP_DigestUpdate(context, base, buffer.count)
    }
    if done == nil {
      let copy = Array(bytes)
      copy.withUnsafeBytes { update($0) }
    }
  }

  /// Appends a tagged, length-prefixed field, so that no two sequences of fields have the same bytes.
  public mutating func field(_ tag: String, _ bytes: some Collection<UInt8>) {
    update("\(tag):\(bytes.count):".utf8)
    update(bytes)
    update("\n".utf8)
  }

  /// The digest of all that was appended; the hash is empty afterwards.
  public mutating func finish() -> Digest {
    var raw = [UInt8](repeating: 0, count: 32)
    var count: UInt32 = 0
    EVP_DigestFinal_ex(context, &raw, &count)
    EVP_DigestInit_ex(context, EVP_sha256(), nil)
    return Digest(raw: raw)
  }
}
