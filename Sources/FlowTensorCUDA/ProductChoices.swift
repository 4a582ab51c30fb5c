import CCUDA
import FlowCore
import FlowTensor
import Foundation
import Synchronization

/// Which algorithm each kind of product takes, as trials found (`ProductTrial`): in memory, and for the next process in a
/// file beside the compiled kernels. All that is taken has the bits of the heuristic's first choice, so that the file,
/// and chance, decide time alone.
final class ProductChoices: Sendable {
  private struct State {
    /// An algorithm's words by the kind of product; `nil` until the file is read.
    var known: [String: [UInt64]]?
    var isChanged = false
    /// What trials may still take.
    var left: Duration
  }
  /// Whether products are tried at all: `FLOW_PRODUCT_TRIALS=0` takes the heuristic's first choice.
  let isOn: Bool
  /// What the algorithms are for.
  private let title: String
  private let folder: String?
  private let state: Mutex<State>
  private let say: @Sendable (String) -> Void

  /// - Parameters:
  ///   - device: its name.
  ///   - folder: where they are kept; nowhere when `nil`.
  ///   - limit: what all trials of a process may take.
  ///   - say: is told when the file is damaged.
  init(
    device: String, folder: String? = KernelCompiler.usualFolder, limit: Duration = .milliseconds(1500),
    say: @escaping @Sendable (String) -> Void = { FileHandle.standardError.write(Data("flow: \($0)\n".utf8)) }
  ) {
    title = "\(device), cublasLt \(CUDALibraries.cublasLt.version)"
    self.folder = folder
    self.say = say
    isOn = ProcessInfo.processInfo.environment["FLOW_PRODUCT_TRIALS"] != "0"
    state = Mutex(State(left: limit))
  }

  /// The file that they are kept in.
  var path: String? {
    var hasher = SHA256()
    hasher.field("title", title.utf8)
    let name = hasher.finish().hex.prefix(16)
    return folder.map { "\($0)/\(name).products" }
  }

  /// The words of the algorithm that products of `kind` take, if it is known.
  func algorithm(_ kind: String) -> [UInt64]? { all[kind] }

  /// All that is known.
  var all: [String: [UInt64]] {
    state.withLock { state in
      if let known = state.known { return known }
      let known = read()
      state.known = known
      return known
    }
  }

  /// From now on products of `kind` take this algorithm.
  func remember(_ kind: String, _ algorithm: [UInt64]) {
    let before = all
    state.withLock { state in
      state.known = (state.known ?? before).merging([kind: algorithm]) { $1 }
      state.isChanged = true
    }
  }

  /// Calls `trial` with the time that it may take at most; `nil` when there is none left.
  func timed<T>(_ trial: (Duration) throws(TensorError) -> T?) throws(TensorError) -> T? {
    let left = state.withLock(\.left)
    guard left > .zero else { return nil }
    let start = ContinuousClock.now
    defer { state.withLock { $0.left -= ContinuousClock.now - start } }
    return try trial(left)
  }

  // MARK: The file: a heading, a line for each kind, and the digest of all that

  private static let heading = "products of "

  private func digest(_ text: some StringProtocol) -> String {
    var hasher = SHA256()
    hasher.field("products", text.utf8)
    return hasher.finish().hex
  }

  /// What the file holds; nothing when there is none, or it is damaged.
  private func read() -> [String: [UInt64]] {
    guard let path, let data = FileManager.default.contents(atPath: path) else { return [:] }
    let text = String(decoding: data, as: UTF8.self)
    guard let found = parse(text) else {
      say("\(path) is damaged: it is not used, and products are tried again")
      return [:]
    }
    return found
  }

  private func parse(_ text: String) -> [String: [UInt64]]? {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count >= 3, lines.popLast() == "", let digest = lines.popLast() else { return nil }
    guard digest == self.digest(lines.joined(separator: "\n")), lines[0] == ProductChoices.heading + title
    else { return nil }
    var found: [String: [UInt64]] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":")
      guard parts.count == 2 else { return nil }
      let words = parts[1].split(separator: " ").compactMap { UInt64($0, radix: 16) }
      guard words.count == 8 else { return nil }
      found[String(parts[0])] = words
    }
    return found
  }

  /// Writes what was learnt since the last time to the file, beside what other processes did.
  func save() {
    let known: [String: [UInt64]]? = state.withLock { state in
      defer { state.isChanged = false }
      return state.isChanged ? state.known : nil
    }
    guard let path, let folder, let known else { return }
    let before = FileManager.default.contents(atPath: path).flatMap {
      parse(String(decoding: $0, as: UTF8.self))
    }
    let all = known.merging(before ?? [:]) { own, _ in own }
    let lines = all.sorted { $0.key < $1.key }.map { kind, words in
      kind + ":" + words.map { " " + String($0, radix: 16) }.joined()
    }
    let text = ([ProductChoices.heading + title] + lines).joined(separator: "\n")
    // Kept if it can be: whoever finds none tries again. A rename, so that none is found half-written.
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try? Data((text + "\n" + digest(text) + "\n").utf8).write(
      to: URL(fileURLWithPath: path), options: .atomic)
  }
}
