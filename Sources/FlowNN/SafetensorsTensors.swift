public import FlowTensor

extension SafetensorsFile {
  /// The tensor `name`: floats of any width become float32, integers int32.
  /// - Throws: `SafetensorsError`, also for types that neither can hold.
  public func tensor(_ name: String) throws -> HostTensor {
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    func map<T, U>(_ type: T.Type, _ convert: (T) -> U) throws -> [U] {
      try withBytes(name) { raw in
        (0..<raw.count / MemoryLayout<T>.size).map {
          convert(raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
        }
      }
    }
    switch entry.type {
    case "F32":
      return try HostTensor(map(UInt32.self) { Float(bitPattern: UInt32(littleEndian: $0)) }, entry.shape)
    case "F64":
      return try HostTensor(
        map(UInt64.self) { Float(Double(bitPattern: UInt64(littleEndian: $0))) }, entry.shape)
    case "BF16":
      return try HostTensor(
        map(UInt16.self) { Float(bitPattern: UInt32(UInt16(littleEndian: $0)) << 16) }, entry.shape)
    case "F16":
      return try HostTensor(map(UInt16.self) { SafetensorsFile.half(UInt16(littleEndian: $0)) }, entry.shape)
    case "I64":
      return try HostTensor(map(Int64.self) { Int32(clamping: Int64(littleEndian: $0)) }, entry.shape)
    case "I32": return try HostTensor(map(Int32.self) { Int32(littleEndian: $0) }, entry.shape)
    case "U8", "BOOL": return try HostTensor(map(UInt8.self) { Int32($0) }, entry.shape)
    default: throw SafetensorsError.unknownType(tensor: name, type: entry.type)
    }
  }

  /// A F64 tensor in full precision.
  /// - Throws: `SafetensorsError` when it is missing or of another type.
  public func doubles(_ name: String) throws -> [Double] {
    guard entries[name]?.type == "F64" else { return try tensor(name).floats.map(Double.init) }
    return try withBytes(name) { raw in
      (0..<raw.count / 8).map {
        Double(bitPattern: UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
      }
    }
  }

  /// IEEE 754 half precision.
  static func half(_ h: UInt16) -> Float {
    let sign: Float = h & 0x8000 == 0 ? 1 : -1
    let exponent = Int(h >> 10) & 31
    let fraction = Float(h & 1023)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
    }
  }
}

extension ParameterStore {
  /// Sets every parameter that `file` has. float32 ones go from the file's pages straight to the device.
  /// - Throws: `SafetensorsError`; `TensorError` when one has another shape or memory runs out.
  public func load(_ file: SafetensorsFile) throws {
    for name in file.names {
      guard let entry = file.entries[name], entry.type == "F32" else {
        try set(name, try file.tensor(name))
        continue
      }
      try file.withBytes(name) { raw in
        guard Int(bitPattern: raw.baseAddress) % MemoryLayout<Float>.alignment == 0 else {
          try set(name, try file.tensor(name))
          return
        }
        try set(name, entry.shape, raw.bindMemory(to: Float.self))
      }
    }
  }
}
