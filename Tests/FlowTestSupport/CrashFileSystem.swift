public import FlowCore
import Foundation
import Synchronization

/// A file system that remembers every change, so that the disk can be made as a power cut at any moment would leave it:
/// of what was not synced by then, each write is kept, dropped or torn, and each change of a name kept or dropped, all
/// independently.
public final class CrashFileSystem: FileSystem {
  private enum Change: Sendable {
    case write(inode: Int, offset: Int, bytes: [UInt8])
    case name(String, inode: Int)
    case rename(String, String)
    case unlink(String)
    case sync(inode: Int)
    case syncFolder(String)
    case syncAll
  }
  private struct State {
    var changes: [Change] = []
    var names: [String: Int] = [:]
    var files: [Int32: (inode: Int, offset: Int)] = [:]
    var folders: [Int32: String] = [:]
    var inodes = 0
  }
  private let base = RealFileSystem()
  private let root: String
  private let state = Mutex(State())

  /// What happens below the folder `root` is remembered.
  public init(root: String) { self.root = root + "/" }

  /// Changes so far: a moment of a crash is a number up to this.
  public var count: Int { state.withLock { $0.changes.count } }

  private func inside(_ path: String) -> String? {
    path.hasPrefix(root) ? String(path.dropFirst(root.count)) : nil
  }

  /// See `FileSystem`.
  public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile {
    let file = try base.open(path, mode)
    guard let name = inside(path) else { return file }
    state.withLock { state in
      switch mode {
      case .create,
        .lock where state.names[name] == nil:
        state.inodes += 1
        state.names[name] = state.inodes
        state.changes.append(.name(name, inode: state.inodes))
        state.files[file.descriptor] = (state.inodes, 0)
      case .folder: state.folders[file.descriptor] = name
      default: if let inode = state.names[name] { state.files[file.descriptor] = (inode, 0) }
      }
    }
    return file
  }

  /// See `FileSystem`.
  public func read(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
    try base.read(file, buffer)
  }

  /// See `FileSystem`.
  public func write(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) -> Int {
    let count = try base.write(file, bytes)
    let copy = Array(bytes[..<count])
    state.withLock { state in
      guard let (inode, offset) = state.files[file.descriptor] else { return }
      state.changes.append(.write(inode: inode, offset: offset, bytes: copy))
      state.files[file.descriptor] = (inode, offset + count)
    }
    return count
  }

  /// See `FileSystem`. Nothing is asked of the real disk: only the model counts.
  public func sync(_ file: OpenFile) {
    state.withLock { state in
      if let (inode, _) = state.files[file.descriptor] { state.changes.append(.sync(inode: inode)) }
      if let folder = state.folders[file.descriptor] { state.changes.append(.syncFolder(folder)) }
    }
  }

  /// See `FileSystem`.
  public func syncAll(_ file: OpenFile) { state.withLock { $0.changes.append(.syncAll) } }

  /// See `FileSystem`.
  public func close(_ file: OpenFile) throws(FileError) {
    state.withLock { state in
      state.files[file.descriptor] = nil
      state.folders[file.descriptor] = nil
    }
    try base.close(file)
  }

  /// See `FileSystem`.
  public func rename(_ from: String, _ to: String) throws(FileError) {
    try state.withLock { state throws(FileError) in
      try base.rename(from, to)
      guard let source = inside(from), let target = inside(to) else { return }
      state.changes.append(.rename(source, target))
      state.names[target] = state.names.removeValue(forKey: source)
    }
  }

  /// See `FileSystem`.
  public func link(_ from: String, _ to: String) throws(FileError) {
    try base.link(from, to)
    state.withLock { state in
      guard let source = inside(from), let target = inside(to), let inode = state.names[source] else {
        return
      }
      state.names[target] = inode
      state.changes.append(.name(target, inode: inode))
    }
  }

  /// See `FileSystem`.
  public func unlink(_ path: String) throws(FileError) {
    try state.withLock { state throws(FileError) in
      try base.unlink(path)
      guard let name = inside(path) else { return }
      state.names[name] = nil
      state.changes.append(.unlink(name))
    }
  }

  /// See `FileSystem`. A folder is there when something in it is.
  public func makeFolder(_ path: String) throws(FileError) { try base.makeFolder(path) }

  /// See `FileSystem`.
  public func touch(_ path: String) throws(FileError) { try base.touch(path) }

  /// Makes the folder `target` as the power cut after `moment` changes could leave it.
  public func leave(after moment: Int, at target: String, random: inout Philox) throws {
    let changes = state.withLock { Array($0.changes.prefix(moment)) }
    let isSure = CrashFileSystem.sureness(changes)
    // All names in their true order, so that a name that is kept leads to the right file whatever else is dropped.
    var (truth, names) = ([String: Int](), [String: Int]())
    var data: [Int: [UInt8]] = [:]
    for (index, change) in changes.enumerated() {
      let isKept = isSure[index] || random.next() % 2 == 0
      switch change {
      case .write(let inode, let offset, let bytes):
        guard isKept else { break }
        var kept = bytes[...]
        var file = data[inode] ?? []
        let isTorn = !isSure[index] && random.next() % 3 == 0
        if isTorn {
          // Up to some sector, and then nothing, or the length without the bytes.
          let sectors = UInt64(bytes.count / 512 + 1)
          let whole = min(bytes.count, Int(random.next() % sectors) * 512)
          kept =
            random.next() % 2 == 0
            ? bytes[..<whole] : bytes[..<whole] + [UInt8](repeating: 0, count: bytes.count - whole)
        }
        if file.count < offset + kept.count {
          file += [UInt8](repeating: 0, count: offset + kept.count - file.count)
        }
        file.replaceSubrange(offset..<offset + kept.count, with: kept)
        data[inode] = file
      case .name(let name, let inode):
        truth[name] = inode
        if isKept { names[name] = inode }
      case .rename(let from, let to):
        let inode = truth.removeValue(forKey: from)
        truth[to] = inode
        if isKept {
          names[from] = nil
          names[to] = inode
        }
      case .unlink(let name):
        truth[name] = nil
        if isKept { names[name] = nil }
      default: break
      }
    }
    for (name, inode) in names {
      let path = target + "/" + name
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try base.writeFile(path, data[inode] ?? [], permissions: 0o644)
    }
  }

  /// Which changes a sync that came later made durable.
  private static func sureness(_ changes: [Change]) -> [Bool] {
    var isSure = [Bool](repeating: false, count: changes.count)
    var all = false
    var (inodes, folders) = (Set<Int>(), Set<String>())
    func folder(_ name: String) -> String { (name as NSString).deletingLastPathComponent }
    for (index, change) in changes.enumerated().reversed() {
      switch change {
      case .syncAll: all = true
      case .sync(let inode): inodes.insert(inode)
      case .syncFolder(let name): folders.insert(name)
      case .write(let inode, _, _): isSure[index] = all || inodes.contains(inode)
      case .name(let name, _), .unlink(let name): isSure[index] = all || folders.contains(folder(name))
      case .rename(_, let to): isSure[index] = all || folders.contains(folder(to))
      }
    }
    return isSure
  }
}
