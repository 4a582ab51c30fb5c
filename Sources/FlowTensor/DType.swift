/// Element types. Numbers are computed in float32; the 16-bit ones are for keeping: an op that is given one widens it,
/// and gradients are float32 whatever the type of what they belong to.
public enum DType: String, Sendable, Hashable, CaseIterable {
  /// IEEE 754 single precision.
  case float32
  /// The upper half of float32.
  case bfloat16
  /// IEEE 754 half precision.
  case float16
  /// Indices, lengths, and the keys of random numbers.
  case int32
  /// A byte, 0 or 1: masks.
  case bool

  /// The bytes of an element.
  public var size: Int {
    switch self {
    case .float32, .int32: 4
    case .bfloat16, .float16: 2
    case .bool: 1
    }
  }

  /// Whether it holds real numbers.
  public var isFloat: Bool { self != .int32 && self != .bool }

  /// The 4-byte words that a tensor of `count` elements takes, at least one.
  package func words(_ count: Int) -> Int { max(1, (count * size + 3) / 4) }

  /// The number that this type keeps of `value`: the nearest, ties to the even one; integers are cut toward 0, at their
  /// range's ends beyond it, and 0 for what is no number.
  package func rounded(_ value: Double) -> Double {
    switch self {
    case .float32: Double(Float(value))
    case .bfloat16: Double(Half.bfloat(Half.bfloat(Float(value))))
    case .float16: Double(Half.half(Half.half(Float(value))))
    case .int32: value.isNaN ? 0 : Double(Int32(max(-2_147_483_648, min(2_147_483_647, value))))
    case .bool: value != 0 ? 1 : 0
    }
  }
}

/// The 16-bit floats as bits.
package enum Half {
  /// bfloat16, ties to even; not a number stays so.
  package static func bfloat(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(bits >> 16) | 0x40 }
    return UInt16((bits + 0x7fff + (bits >> 16 & 1)) >> 16)
  }
  /// bfloat16.
  package static func bfloat(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
  /// IEEE 754 half precision, ties to even.
  package static func half(_ value: Float) -> UInt16 { Float16(value).bitPattern }
  /// IEEE 754 half precision.
  package static func half(_ bits: UInt16) -> Float { Float(Float16(bitPattern: bits)) }
}
