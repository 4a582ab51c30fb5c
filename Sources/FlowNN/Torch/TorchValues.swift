public import FlowTensor

extension PickleHeap.Tensor {
  /// The elements in `data`, row-major.
  func values(
    _ data: UnsafeRawBufferPointer, _ type: TorchElement, _ name: String
  ) throws(TorchError) -> HostTensor.Values {
    let places = places()
    func all<Bits: FixedWidthInteger, Value>(_: Bits.Type, _ convert: (Bits) -> Value) -> [Value] {
      func value(_ place: Int) -> Value {
        convert(Bits(littleEndian: data.loadUnaligned(fromByteOffset: place * type.size, as: Bits.self)))
      }
      return if let places { places.map(value) } else { (offset..<offset + count).map(value) }
    }
    switch type {
    case .float: return .float32(all(UInt32.self, Float.init(bitPattern:)))
    case .double: return .float32(all(UInt64.self) { Float(Double(bitPattern: $0)) })
    case .half: return .float16(all(UInt16.self) { $0 })
    case .bfloat16: return .bfloat16(all(UInt16.self) { $0 })
    case .int: return .int32(all(Int32.self) { $0 })
    case .short: return .int32(all(Int16.self, Int32.init))
    case .char: return .int32(all(Int8.self, Int32.init))
    case .byte: return .int32(all(UInt8.self, Int32.init))
    case .bool: return .bool(all(UInt8.self) { $0 != 0 })
    case .long:
      var result: [Int32] = []
      for value in all(Int64.self, { $0 }) {
        guard let small = Int32(exactly: value) else {
          throw .tensor(name, problem: "the integer \(value) is too large for 32 bits")
        }
        result.append(small)
      }
      return .int32(result)
    }
  }

  /// The number of elements.
  private var count: Int { shape.contains(0) ? 0 : shape.reduce(1, *) }

  /// Where in the storage each element lies, row-major; `nil` when they lie in a row from `offset` on.
  private func places() -> [Int]? {
    var run = 1
    var isRow = true
    for (size, stride) in zip(shape, strides).reversed() where size != 1 {
      isRow = isRow && stride == run
      run &*= max(1, size)
    }
    if isRow || count == 0 { return nil }
    return zip(shape, strides).reduce([offset]) { places, axis in
      axis.0 == 1 ? places : places.flatMap { base in (0..<axis.0).map { base + $0 * axis.1 } }
    }
  }
}

extension ParameterStore {
  /// Sets the parameters that `archive` has in the dictionary at `path`, under their names in it.
  /// - Throws: `TorchError`; `TensorError` when one has another shape or memory runs out.
  public func load(_ archive: TorchArchive, at path: [String]) throws {
    for (name, entry) in try archive.entries(at: path) { try set(name, archive.tensor(entry, named: name)) }
  }
}
