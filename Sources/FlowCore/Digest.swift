import CCrypto

/// SHA-256 of some bytes: the identity of everything flow stores.
public struct Digest: Hashable, Comparable, Sendable, CustomStringConvertible {
  // Four words in the order of the bytes: no memory of its own, and quick to compare.
  private let a: UInt64, b: UInt64, c: UInt64, d: UInt64

  /// The 64 lower-case hexadecimal characters.
  public var hex: String {
    let digits: StaticString = "0123456789abcdef"
    return String(unsafeUninitializedCapacity: 64) { buffer in
      var at = 0
      for word in [a, b, c, d] {
        for shift in stride(from: 60, through: 0, by: -4) {
          buffer[at] = digits.utf8Start[Int(word >> UInt64(shift) & 15)]
          at += 1
        }
      }
      return 64
    }
  }

  /// Takes 64 lower-case hexadecimal characters; anything else is `nil`.
  public init?(hex: String) {
    var words: [UInt64] = [0, 0, 0, 0]
    var count = 0
    for byte in hex.utf8 {
      let value: UInt8
      switch byte {
      case 48...57: value = byte - 48
      case 97...102: value = byte - 87
      default: return nil
      }
      guard count < 64 else { return nil }
      words[count / 16] = words[count / 16] << 4 | UInt64(value)
      count += 1
    }
    guard count == 64 else { return nil }
    (a, b, c, d) = (words[0], words[1], words[2], words[3])
  }

  /// Takes the 32 bytes at `bytes`.
  public init(bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count == 32, "a digest has 32 bytes")
    func word(_ i: Int) -> UInt64 {
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: i * 8, as: UInt64.self))
    }
    (a, b, c, d) = (word(0), word(1), word(2), word(3))
  }

  /// The 32 bytes, handed to `body`.
  public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try withUnsafeBytes(of: (a.bigEndian, b.bigEndian, c.bigEndian, d.bigEndian), body)
  }

  /// The digest of `bytes`.
  public init(of bytes: some Sequence<UInt8>) {
    var hasher = SHA256()
    hasher.update(bytes)
    self = hasher.finish()
  }

  /// The digest of the UTF-8 of `text`.
  public init(of text: String) { self.init(of: text.utf8) }

  /// The first 12 characters, for people to read.
  public var short: String { String(hex.prefix(12)) }

  /// The message, for a reader.
  public var description: String { hex }

  /// The order of the bytes.
  public static func < (x: Digest, y: Digest) -> Bool {
    (x.a, x.b, x.c, x.d) < (y.a, y.b, y.c, y.d)
  }
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

  /// Looked up once; without the machine's configuration of libcrypto, which costs every start a millisecond. Never changed
  /// once it is there.
  nonisolated(unsafe) private static let algorithm: OpaquePointer? = {
    OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_LOAD_CONFIG), nil)
    return EVP_MD_fetch(nil, "SHA256", nil)
  }()

  /// An empty hash.
  public init() {
    context = EVP_MD_CTX_new()
    EVP_DigestInit_ex(context, SHA256.algorithm, nil)
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
    withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { raw in
      var count: UInt32 = 0
      EVP_DigestFinal_ex(context, raw.baseAddress?.assumingMemoryBound(to: UInt8.self), &count)
      EVP_DigestInit_ex(context, SHA256.algorithm, nil)
      return Digest(bytes: UnsafeRawBufferPointer(raw))
    }
  }

  /// Appends a digest's bytes.
  public mutating func update(_ digest: Digest) { digest.withBytes { update($0) } }
}
