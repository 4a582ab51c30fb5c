/// How tensors are rebuilt: the few functions that torch's pickles name.
extension PickleReader {
  /// `('storage', type, key, location, count)`.
  mutating func storage(_ id: PickleValue) throws(TorchError) {
    guard case .tuple(let index) = id, heap.tuples[index].count == 5,
      heap.tuples[index][0] == .text("storage"), case .global(.storage(let type)) = heap.tuples[index][1],
      case .text(let key) = heap.tuples[index][2], case .text = heap.tuples[index][3],
      case .int(let count) = heap.tuples[index][4]
    else { throw refusal("('storage', its type, key, location and number of elements) is expected") }
    guard count >= 0, count < 1 << 48 else { throw refusal("a storage of \(count) elements") }
    heap.storages.append(PickleHeap.Storage(type: type, key: key, count: count))
    stack.append(.storage(heap.storages.count - 1))
  }

  mutating func reduce() throws(TorchError) {
    let (arguments, function) = (try pop(), try pop())
    guard case .tuple(let index) = arguments, case .global(let global) = function else {
      throw refusal("a known function and a tuple of arguments are expected")
    }
    let values = heap.tuples[index]
    switch global {
    case .orderedDictionary:
      guard values.isEmpty else { throw refusal("an OrderedDict is made empty") }
      dictionary()
    case .rebuildParameter:
      guard values.count == 3, case .tensor = values[0] else {
        throw refusal("a parameter is made of a tensor, whether it is trained, and hooks")
      }
      try checkHooks(values[2])
      stack.append(values[0])
    case .rebuildTensor: try tensor(values)
    case .storage: throw refusal("a storage is only made by a persistent id")
    }
  }

  private func checkHooks(_ value: PickleValue) throws(TorchError) {
    guard case .dictionary(let index) = value, heap.dictionaries[index].isEmpty else {
      throw refusal("a tensor with hooks, which would be run")
    }
  }

  /// `(storage, offset, shape, strides, whether it is trained, hooks)`.
  private mutating func tensor(_ values: [PickleValue]) throws(TorchError) {
    guard values.count == 6, case .storage(let storage) = values[0], case .int(let offset) = values[1],
      case .tuple(let shape) = values[2], case .tuple(let strides) = values[3], case .bool = values[4]
    else { throw refusal("a tensor is made of storage, offset, shape, strides, a bool and hooks") }
    try checkHooks(values[5])
    func sizes(_ index: Int) throws(TorchError) -> [Int] {
      var result: [Int] = []
      for value in heap.tuples[index] {
        guard case .int(let size) = value, size >= 0, size < 1 << 48, result.count < 64 else {
          throw refusal("shapes and strides are at most 64 numbers, none negative or beyond 2⁴⁸")
        }
        result.append(size)
      }
      return result
    }
    let tensor = PickleHeap.Tensor(
      storage: storage, offset: offset, shape: try sizes(shape), strides: try sizes(strides))
    if let problem = tensor.problem(in: heap.storages[storage]) { throw refusal(problem) }
    heap.tensors.append(tensor)
    stack.append(.tensor(heap.tensors.count - 1))
  }

  /// Only `_metadata` (versions of modules) may be put beside a dictionary's items; it is not kept.
  mutating func build() throws(TorchError) {
    let (state, target) = (try pop(), try pop())
    guard case .dictionary = target, case .dictionary(let index) = state,
      heap.dictionaries[index].allSatisfy({ $0.key == .text("_metadata") })
    else { throw refusal("it would set the state of an object, and \(PickleReader.rule)") }
    stack.append(target)
  }
}

extension PickleHeap.Tensor {
  /// Why this can't be a view of `storage`.
  func problem(in storage: PickleHeap.Storage) -> String? {
    guard shape.count == strides.count else {
      return "a shape of \(shape.count) dimensions and \(strides.count) strides"
    }
    var (elements, last) = (1, offset)
    for (size, stride) in zip(shape, strides) {
      let (product, tooMany) = elements.multipliedReportingOverflow(by: size)
      let (reach, tooFar) = stride.multipliedReportingOverflow(by: max(0, size - 1))
      let (sum, beyond) = last.addingReportingOverflow(reach)
      if tooMany || tooFar || beyond { return "the shape \(shape) overflows" }
      (elements, last) = (product, sum)
    }
    guard offset >= 0, offset <= storage.count, elements == 0 || last < storage.count else {
      return
        "a tensor of shape \(shape), strides \(strides) from element \(offset) reaches out of its storage of "
        + "\(storage.count)"
    }
    return elements <= storage.count ? nil : "a tensor of \(elements) elements repeats those of its storage"
  }
}
