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
        map(UInt16.self) { Half.bfloat(UInt16(littleEndian: $0)) }, entry.shape)
    case "F16":
      return try HostTensor(map(UInt16.self) { Half.half(UInt16(littleEndian: $0)) }, entry.shape)
    case "I64":
      return try HostTensor(map(Int64.self) { Int32(clamping: Int64(littleEndian: $0)) }, entry.shape)
    case "I32": return try HostTensor(map(Int32.self) { Int32(littleEndian: $0) }, entry.shape)
    case "I16": return try HostTensor(map(Int16.self) { Int32(Int16(littleEndian: $0)) }, entry.shape)
    case "U16": return try HostTensor(map(UInt16.self) { Int32(UInt16(littleEndian: $0)) }, entry.shape)
    case "I8": return try HostTensor(map(Int8.self) { Int32($0) }, entry.shape)
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
}

extension SafetensorsFile {
  /// The element type that keeps the tensor `name` as it is; `nil` when there is none, or no such tensor.
  public func storage(_ name: String) -> DType? {
    switch entries[name]?.type {
    case "F32": .float32
    case "BF16": .bfloat16
    case "F16": .float16
    case "I32": .int32
    case "BOOL": .bool
    default: nil
    }
  }
}

extension SafetensorsFile {
  /// The tensor `name`, 16-bit floats and masks as they are, others as `tensor` gives them.
  /// - Throws: `SafetensorsError`.
  public func stored(_ name: String) throws -> HostTensor {
    guard let entry = entries[name] else { throw SafetensorsError.noTensor(name) }
    func bits() throws -> [UInt16] {
      try withBytes(name) { raw in
        (0..<raw.count / 2).map {
          UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self))
        }
      }
    }
    return switch entry.type {
    case "BF16": try HostTensor(.bfloat16(bits()), entry.shape)
    case "F16": try HostTensor(.float16(bits()), entry.shape)
    case "BOOL": try tensor(name).cast(to: .bool)
    default: try tensor(name)
    }
  }
}

extension ParameterStore {
  /// Sets every parameter that `file` has. What needs no conversion goes from the file's pages straight to the device.
  /// - Parameters:
  ///   - keeping: the types that stay as they are; others become float32.
  ///   - borrowing: what needs no conversion is read where it lies in the mapped file, when it is used, and can't be set. Where the
  ///     device keeps values in 16 bits, matrices are kept so.
  /// - Throws: `SafetensorsError`; `TensorError` when one has another shape or memory runs out.
  public func load(_ file: SafetensorsFile, keeping types: Set<DType> = [.float32], borrowing: Bool = false)
    throws
  {
    for name in file.names {
      guard let entry = file.entries[name], let type = file.storage(name), types.contains(type),
        type == dtype(name) ?? type, type != .bool
      else {
        try set(name, try file.tensor(name))
        continue
      }
      if borrowing, type == .float32, entry.shape.count == 2, let narrow = backend.narrowing?.type {
        // A product would make such a copy in every run.
        try set(name, try file.tensor(name).cast(to: narrow))
        continue
      }
      if borrowing, let memory = try file.borrowed(name) {
        try borrow(name, entry.shape, type, memory)
      } else {
        try file.withBytes(name) { try set(name, entry.shape, type, $0) }
      }
    }
  }
}
