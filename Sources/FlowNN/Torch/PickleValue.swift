/// What a restricted pickle can build. Containers are held by number in `PickleHeap`, so that no nesting or cycle of them,
/// however deep, is ever followed.
enum PickleValue: Sendable, Hashable {
  case none
  case bool(Bool)
  case int(Int)
  case double(Double)
  case text(String)
  case global(Global)
  case tuple(Int)
  case list(Int)
  case dictionary(Int)
  case storage(Int)
  case tensor(Int)

  /// The functions and types that may be named.
  enum Global: Sendable, Hashable {
    case orderedDictionary
    case rebuildTensor
    case rebuildParameter
    case storage(TorchElement)

    /// The one called `name` in `module`.
    init?(_ module: String, _ name: String) {
      switch (module, name) {
      case ("collections", "OrderedDict"): self = .orderedDictionary
      case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
      case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
      case ("torch", _):
        guard name.hasSuffix("Storage"), let type = TorchElement(rawValue: String(name.dropLast(7))) else {
          return nil
        }
        self = .storage(type)
      default: return nil
      }
    }
  }
}

/// Element types, by torch's names of their storages.
enum TorchElement: String, Sendable, Hashable {
  case float = "Float"
  case double = "Double"
  case half = "Half"
  case bfloat16 = "BFloat16"
  case long = "Long"
  case int = "Int"
  case short = "Short"
  case char = "Char"
  case byte = "Byte"
  case bool = "Bool"

  /// Bytes of an element.
  var size: Int {
    switch self {
    case .double, .long: 8
    case .float, .int: 4
    case .half, .bfloat16, .short: 2
    case .char, .byte, .bool: 1
    }
  }
}

/// The containers, storages and tensors that a pickle made.
struct PickleHeap: Sendable {
  /// A run of elements in an entry of the archive.
  struct Storage: Sendable, Hashable {
    let type: TorchElement
    /// The name of its entry, after `data/`.
    let key: String
    let count: Int
  }

  /// A view of a storage.
  struct Tensor: Sendable, Hashable {
    let storage: Int
    let offset: Int
    let shape: [Int]
    let strides: [Int]
  }

  var tuples: [[PickleValue]] = []
  var lists: [[PickleValue]] = []
  var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  var storages: [Storage] = []
  var tensors: [Tensor] = []

  /// Containers and the like so far.
  var count: Int { tuples.count + lists.count + dictionaries.count + storages.count + tensors.count }
}
