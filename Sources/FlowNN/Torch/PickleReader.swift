import Foundation

/// Carries out a pickle as far as it rebuilds tensors, dictionaries, tuples, lists, numbers and strings. Every other
/// instruction, function and type is refused by its name; nothing of it is ever called.
struct PickleReader {
  /// The most values on the stack, remembered, or made, and the longest pickle, in bytes. The largest models' are a
  /// thousandth of it.
  static let limit = 1 << 20, byteLimit = 16 << 20

  private let bytes: UnsafeRawBufferPointer
  private var position = 0
  private var instruction = (name: "data.pkl", offset: 0)
  var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]
  var heap = PickleHeap()

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// The value that the pickle makes, and all that belongs to it.
  /// - Throws: `TorchError.instruction`.
  mutating func read() throws(TorchError) -> (PickleValue, PickleHeap) {
    guard bytes.count <= PickleReader.byteLimit else {
      throw refusal("\(bytes.count) bytes are more than the \(PickleReader.byteLimit) that are read")
    }
    while true {
      instruction.offset = position
      instruction.name = "the next instruction"
      let code = try take(1)[0]
      guard let known = PickleInstruction(rawValue: code) else {
        instruction.name = "instruction 0x" + String(code, radix: 16)
        throw refusal("there is no such instruction")
      }
      instruction.name = known.name
      if known == .stop {
        let value = try pop()
        guard position == bytes.count else { throw refusal("\(bytes.count - position) bytes follow it") }
        return (value, heap)
      }
      try carryOut(known)
      guard stack.count <= PickleReader.limit, memo.count <= PickleReader.limit,
        heap.count <= PickleReader.limit, marks.count <= PickleReader.limit
      else { throw refusal("more than \(PickleReader.limit) values") }
    }
  }

  func refusal(_ problem: String) -> TorchError {
    .instruction(name: instruction.name, offset: instruction.offset, problem: problem)
  }

  // MARK: Reading

  private mutating func take(_ count: Int) throws(TorchError) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= bytes.count - position else {
      throw refusal("\(count) bytes are wanted, and the pickle has \(bytes.count - position) more")
    }
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
  }

  private mutating func number(_ size: Int) throws(TorchError) -> Int {
    let value = try take(size).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard let number = Int(exactly: value) else { throw refusal("a length of \(value) bytes") }
    return number
  }

  /// A little-endian integer of two's complement.
  private mutating func signed(_ size: Int) throws(TorchError) -> Int {
    guard size <= 8 else { throw refusal("an integer of \(size) bytes is longer than 8") }
    let part = try take(size)
    let negative = (part.last ?? 0) & 0x80 != 0
    return part.reversed().reduce(negative ? -1 : 0) { $0 << 8 | Int($1) }
  }

  private mutating func text(_ count: Int) throws(TorchError) -> String {
    guard let text = String(validating: try take(count), as: UTF8.self) else {
      throw refusal("a string that is not UTF-8")
    }
    return text
  }

  /// The text up to the end of the line.
  private mutating func line() throws(TorchError) -> String {
    guard let end = bytes[position...].prefix(65536).firstIndex(of: 0x0A) else {
      throw refusal("its line does not end")
    }
    let text = try text(end - position)
    position += 1
    return text
  }

  mutating func pop() throws(TorchError) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.popLast() else {
      throw refusal("there is nothing on the stack")
    }
    return value
  }

  private mutating func popToMark() throws(TorchError) -> [PickleValue] {
    guard let mark = marks.popLast(), mark <= stack.count else { throw refusal("there is no mark") }
    let values = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return values
  }

  // MARK: Carrying out

  private mutating func carryOut(_ code: PickleInstruction) throws(TorchError) {
    switch code {
    case .protocolVersion:
      let version = try take(1)[0]
      guard version <= 5, instruction.offset == 0 else {
        throw refusal(version <= 5 ? "it is not the first" : "protocol \(version) is unknown")
      }
    case .frame:
      let length = try number(8)
      guard length <= bytes.count - position else {
        throw refusal("a frame of \(length) bytes reaches out of the pickle")
      }
    case .mark: marks.append(stack.count)
    case .pop: _ = try pop()
    case .popMark: _ = try popToMark()
    case .dup:
      let value = try pop()
      stack += [value, value]
    case .none: stack.append(.none)
    case .newTrue: stack.append(.bool(true))
    case .newFalse: stack.append(.bool(false))
    case .binInt: stack.append(.int(try signed(4)))
    case .binInt1: stack.append(.int(try number(1)))
    case .binInt2: stack.append(.int(try number(2)))
    case .long1: stack.append(.int(try signed(number(1))))
    case .long4: stack.append(.int(try signed(number(4))))
    case .int, .long: try integerLine(code)
    case .binFloat:
      let bits = try take(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      stack.append(.double(Double(bitPattern: bits)))
    case .float:
      let text = try line()
      guard let value = Double(text) else { throw refusal("'\(text)' is no number") }
      stack.append(.double(value))
    case .binUnicode: stack.append(.text(try text(number(4))))
    case .shortBinUnicode: stack.append(.text(try text(number(1))))
    case .binUnicode8: stack.append(.text(try text(number(8))))
    case .unicode:
      let text = try line()
      guard !text.contains("\\") else { throw refusal("a string with escapes") }
      stack.append(.text(text))
    case .emptyTuple: tuple([])
    case .tuple: tuple(try popToMark())
    case .tuple1: tuple([try pop()])
    case .tuple2:
      let last = try pop()
      tuple([try pop(), last])
    case .tuple3:
      let (last, middle) = (try pop(), try pop())
      tuple([try pop(), middle, last])
    case .emptyList: list([])
    case .list: list(try popToMark())
    case .append: try append([pop()])
    case .appends: try append(popToMark())
    case .emptyDictionary: dictionary()
    case .dictionary:
      let items = try popToMark()
      dictionary()
      try set(items)
    case .setItem:
      let value = try pop()
      try set([pop(), value])
    case .setItems: try set(popToMark())
    case .put, .binPut, .longBinPut, .memoize: try remember(code)
    case .get, .binGet, .longBinGet: try recall(code)
    case .global: try global(module: line(), name: line())
    case .stackGlobal:
      let (name, module) = (try pop(), try pop())
      guard case .text(let name) = name, case .text(let module) = module else {
        throw refusal("a module and a name are expected")
      }
      try global(module: module, name: name)
    case .binPersistentID: try storage(pop())
    case .reduce: try reduce()
    case .build: try build()
    case .instance: throw refusal("it would make a '\(try line()).\(try line())', and \(PickleReader.rule)")
    case .persistentID: throw refusal("it would fetch an object '\(try line())', and \(PickleReader.rule)")
    default: throw refusal(PickleReader.rule)
    }
  }

  static let rule =
    "only tensors, dictionaries, lists, tuples, numbers and text are rebuilt, nothing is ever run"

  private mutating func integerLine(_ code: PickleInstruction) throws(TorchError) {
    var text = try line()
    if code == .int, text == "00" || text == "01" { return stack.append(.bool(text == "01")) }
    if code == .long, text.hasSuffix("L") { text.removeLast() }
    guard let value = Int(text) else { throw refusal("'\(text)' is no integer of 64 bits") }
    stack.append(.int(value))
  }

  private mutating func tuple(_ values: [PickleValue]) {
    heap.tuples.append(values)
    stack.append(.tuple(heap.tuples.count - 1))
  }

  private mutating func list(_ values: [PickleValue]) {
    heap.lists.append(values)
    stack.append(.list(heap.lists.count - 1))
  }

  mutating func dictionary() {
    heap.dictionaries.append([])
    stack.append(.dictionary(heap.dictionaries.count - 1))
  }

  private mutating func append(_ values: [PickleValue]) throws(TorchError) {
    let target = try pop()
    guard case .list(let index) = target else { throw refusal("it appends to something that is no list") }
    heap.lists[index] += values
    stack.append(target)
  }

  private mutating func set(_ items: [PickleValue]) throws(TorchError) {
    let target = try pop()
    guard case .dictionary(let index) = target else {
      throw refusal("it sets items of something that is no dictionary")
    }
    guard items.count % 2 == 0 else { throw refusal("a key has no value") }
    for i in stride(from: 0, to: items.count, by: 2) {
      heap.dictionaries[index].append((items[i], items[i + 1]))
    }
    stack.append(target)
  }

  private mutating func remember(_ code: PickleInstruction) throws(TorchError) {
    let index: Int
    switch code {
    case .put:
      let text = try line()
      guard let number = Int(text), number >= 0 else { throw refusal("'\(text)' is no place") }
      index = number
    case .binPut: index = try number(1)
    case .longBinPut: index = try number(4)
    default: index = memo.count
    }
    let value = try pop()
    stack.append(value)
    memo[index] = value
  }

  private mutating func recall(_ code: PickleInstruction) throws(TorchError) {
    let index: Int
    switch code {
    case .get:
      let text = try line()
      guard let number = Int(text) else { throw refusal("'\(text)' is no place") }
      index = number
    case .binGet: index = try number(1)
    default: index = try number(4)
    }
    guard let value = memo[index] else { throw refusal("nothing was put at place \(index)") }
    stack.append(value)
  }

  private mutating func global(module: String, name: String) throws(TorchError) {
    guard let known = PickleValue.Global(module, name) else {
      throw refusal("it names '\(module).\(name)', and \(PickleReader.rule)")
    }
    stack.append(.global(known))
  }
}
