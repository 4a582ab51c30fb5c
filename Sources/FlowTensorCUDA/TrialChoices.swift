import CCUDA
import FlowCore
import FlowTensor
import Foundation
import Synchronization

/// What trials found the fastest: which algorithm a kind of product takes (`ProductTrial`), and in which form a kind of step
/// is done (`StepTrial`): in memory, and for the next process in a file beside the compiled kernels. All that is taken has
/// the bits of what is taken without, so that the file, and chance, decide time alone.
final class TrialChoices: Sendable {
  private struct State {
    /// The words of what is taken, by the kind of what was tried; `nil` until the file is read.
    var known: [String: [UInt64]]?
    var isChanged = false
    /// What trials may still take.
    var left: Duration
    /// What was tried or taken in this process, for a reader.
    var notes: [String] = []
  }
  /// Whether anything is tried, or taken that was: `FLOW_TRIALS=0` takes what comes first.
  let isOn: Bool
  /// Bytes that a step must move for its forms to be worth a trial.
  let leastBytes: Int
  /// What the choices are for.
  private let title: String
  private let folder: String?
  private let state: Mutex<State>
  private let say: @Sendable (String) -> Void

  /// - Parameters:
  ///   - device: its name.
  ///   - folder: where they are kept; nowhere when `nil`.
  ///   - limit: what all trials of a process may take.
  ///   - leastBytes: what a step must move for its forms to be tried.
  ///   - say: is told when the file is damaged.
  init(
    device: String, folder: String? = KernelCompiler.usualFolder, limit: Duration = .milliseconds(2500),
    leastBytes: Int = 8 << 20,
    say: @escaping @Sendable (String) -> Void = { FileHandle.standardError.write(Data("flow: \($0)\n".utf8)) }
  ) {
    title = "\(device), cublasLt \(CUDALibraries.cublasLt.version), nvrtc \(CUDALibraries.nvrtc.version)"
    self.folder = folder
    self.say = say
    isOn = ProcessInfo.processInfo.environment["FLOW_TRIALS"] != "0"
    self.leastBytes = isOn ? leastBytes : .max
    state = Mutex(State(left: limit))
  }

  /// The file that they are kept in.
  var path: String? {
    var hasher = SHA256()
    hasher.field("title", title.utf8)
    let name = hasher.finish().hex.prefix(16)
    return folder.map { "\($0)/\(name).trials" }
  }

  /// The words of what is taken for `kind`, if it is known.
  func words(_ kind: String) -> [UInt64]? { all[kind] }

  /// All that is known.
  var all: [String: [UInt64]] {
    state.withLock { state in
      if let known = state.known { return known }
      let known = read()
      state.known = known
      return known
    }
  }

  /// From now on this is taken for `kind`.
  func remember(_ kind: String, _ words: [UInt64]) {
    let before = all
    state.withLock { state in
      state.known = (state.known ?? before).merging([kind: words]) { $1 }
      state.isChanged = true
    }
  }

  /// What was tried in this process, and taken from what an earlier one tried.
  var notes: [String] { state.withLock(\.notes) }

  func note(_ text: String) {
    state.withLock { if !$0.notes.contains(text) { $0.notes.append(text) } }
  }

  /// Whether trials may still take time.
  var hasTime: Bool { state.withLock { $0.left > .zero } }

  /// Calls `trial` with the time that it may take at most; `nil` when there is none left.
  func timed<T>(_ trial: (Duration) throws(TensorError) -> T?) throws(TensorError) -> T? {
    let left = state.withLock(\.left)
    guard left > .zero else { return nil }
    let start = ContinuousClock.now
    defer { state.withLock { $0.left -= ContinuousClock.now - start } }
    return try trial(left)
  }

  // MARK: The file: a heading, a line for each kind, and the digest of all that

  private static let heading = "trials on "

  private func digest(_ text: some StringProtocol) -> String {
    var hasher = SHA256()
    hasher.field("trials", text.utf8)
    return hasher.finish().hex
  }

  /// What the file holds; nothing when there is none, or it is damaged.
  private func read() -> [String: [UInt64]] {
    guard let path, let data = FileManager.default.contents(atPath: path) else { return [:] }
    let text = String(decoding: data, as: UTF8.self)
    guard let found = parse(text) else {
      say("\(path) is damaged: it is not used, and what it had is tried again")
      return [:]
    }
    return found
  }

  private func parse(_ text: String) -> [String: [UInt64]]? {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count >= 3, lines.popLast() == "", let digest = lines.popLast() else { return nil }
    guard digest == self.digest(lines.joined(separator: "\n")), lines[0] == TrialChoices.heading + title
    else { return nil }
    var found: [String: [UInt64]] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":")
      guard parts.count == 2 else { return nil }
      let texts = parts[1].split(separator: " ")
      let words = texts.compactMap { UInt64($0, radix: 16) }
      guard !words.isEmpty, words.count == texts.count else { return nil }
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
    let text = ([TrialChoices.heading + title] + lines).joined(separator: "\n")
    // Kept if it can be: whoever finds none tries again. A rename, so that none is found half-written.
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try? Data((text + "\n" + digest(text) + "\n").utf8).write(
      to: URL(fileURLWithPath: path), options: .atomic)
  }
}
