public import FlowCore
import Foundation
import Synchronization

/// What a store published since its last commit.
final class Uncommitted: Sendable {
  private struct State {
    var paths: Set<String> = []
    var since = ContinuousClock.now
  }
  private let state = Mutex(State())

  func add(_ paths: [String]) {
    state.withLock { state in
      // An idle store's time doesn't count.
      if state.paths.isEmpty { state.since = max(state.since, .now - .milliseconds(500)) }
      state.paths.formUnion(paths)
    }
  }

  /// All of it, when the oldest has waited for `time`.
  func take(after time: Duration) -> Set<String> {
    state.withLock { state in
      guard !state.paths.isEmpty, ContinuousClock.now - state.since >= time else { return [] }
      defer { state.paths = [] }
      state.since = .now
      return state.paths
    }
  }
}

extension Store {
  /// Takes note of a record that another process published.
  public func note(_ record: ActionRecord, key: Digest) {
    uncommitted.add([recordPath(key)] + record.objects.map(path(of:)))
  }

  /// Makes everything that was published so far durable, by one call for all files; nothing was published, nothing is done.
  /// Then writes `bytes`, if there are any, to the file at `path`, which has no digest of its own: after a power cut it
  /// holds them or what it held before, and what it speaks of is there.
  ///
  /// Where syncing fails, the records and objects concerned are not trusted any more: they are deleted, and made again.
  /// - Throws: `StoreError.unwritable`.
  public func commit(then bytes: [UInt8]? = nil, at path: String = "") throws(StoreError) {
    guard let bytes else { return try sync(uncommitted.take(after: .zero)) }
    let file = try prepare(bytes, at: path)
    let folder = Path.parent(file.temporary)
    do throws(StoreError) {
      let paths = uncommitted.take(after: .zero)
      try sync(paths)
      if paths.isEmpty || !isOneDisk(folder) { try syncAll(folder.isEmpty ? "." : folder) }
    } catch {
      disk.discard(file.temporary)
      throw error
    }
    try finish(file)
  }

  /// The same, at most once a second: a stage of many short actions shares a commit, a long action has one of its own.
  /// - Throws: `StoreError.unwritable`.
  public func commitIfDue() throws(StoreError) { try sync(uncommitted.take(after: .seconds(1))) }

  private func sync(_ paths: Set<String>) throws(StoreError) {
    guard !paths.isEmpty else { return }
    do throws(StoreError) { try syncAll(root) } catch {
      for path in paths.sorted() { disk.discard(path) }
      throw error
    }
  }

  /// Makes everything on the file system of `folder` durable.
  /// - Throws: `StoreError.unwritable`.
  public func syncAll(_ folder: String) throws(StoreError) {
    guard durability == .full else { return }
    do throws(FileError) { try disk.syncingAll(folder) } catch { throw StoreError(error) }
  }

  private func isOneDisk(_ folder: String) -> Bool {
    var (ours, other) = (stat(), stat())
    return stat(root, &ours) == 0 && stat(folder, &other) == 0 && ours.st_dev == other.st_dev
  }
}
