import Foundation
import Synchronization

/// What goes wrong, and at which call: `enospc@17`, or `eio@17+` for that call and all later ones.
public struct Fault: Sendable, Hashable {
  /// The kinds.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// The process ends before the call.
    case kill
    /// Half of a write is done, then the process ends.
    case tear
    /// The disk is full.
    case enospc
    /// The device fails.
    case eio
    /// A signal interrupts.
    case eintr
    /// Half of a read or write is done.
    case short
    /// No descriptor is left.
    case emfile
    /// Nothing goes wrong; calls are counted.
    case count
  }
  /// What goes wrong.
  public var kind: Kind
  /// The first call concerned, from 1.
  public var at: Int
  /// Whether all later calls are concerned too.
  public var isLasting: Bool

  /// A fault.
  public init(_ kind: Kind, at: Int, isLasting: Bool = false) {
    self.kind = kind
    self.at = at
    self.isLasting = isLasting
  }

  /// Reads `kind@N`, `kind@N+` or `count`.
  public init?(_ text: String) {
    if text == Kind.count.rawValue {
      self.init(.count, at: 0)
      return
    }
    let parts = text.split(separator: "@")
    guard parts.count == 2, let kind = Kind(rawValue: String(parts[0])) else { return nil }
    let isLasting = parts[1].hasSuffix("+")
    guard let at = Int(isLasting ? parts[1].dropLast() : parts[1]), at > 0 else { return nil }
    self.init(kind, at: at, isLasting: isLasting)
  }
}

/// A file system in which one call goes wrong. Calls are counted over the whole of it.
public final class FaultyFileSystem: FileSystem {
  private let base: any FileSystem
  private let fault: Fault
  private let calls = Atomic<Int>(0)
  private let hits = Atomic<Int>(0)

  /// `base` with `fault`.
  public init(_ base: any FileSystem = RealFileSystem(), _ fault: Fault) {
    self.base = base
    self.fault = fault
  }

  /// Calls so far.
  public var count: Int { calls.load(ordering: .relaxed) }
  /// Whether the fault has happened.
  public var hasFired: Bool { hits.load(ordering: .relaxed) > 0 }

  /// Counts a call; what is to go wrong with it. An interruption happens once, however often the call is repeated.
  private func next() -> Fault.Kind? {
    let number = calls.add(1, ordering: .relaxed).newValue
    guard fault.kind != .count, number == fault.at || (fault.isLasting && number > fault.at) else {
      return nil
    }
    let hit = hits.add(1, ordering: .relaxed).newValue
    if fault.kind == .eintr, hit % 2 == 0 { return nil }
    if fault.kind == .kill { _exit(137) }
    return fault.kind
  }

  private func pass(_ call: String, _ path: String, writes: Bool = true) throws(FileError) {
    switch next() {
    case .enospc? where writes: throw FileError(call, path, ENOSPC)
    case .eio?: throw FileError(call, path, EIO)
    case .eintr? where call != "rename" && call != "unlink": throw FileError(call, path, EINTR)
    case .emfile? where call == "open": throw FileError(call, path, EMFILE)
    case .tear?: _exit(137)
    default: break
    }
  }

  /// See `FileSystem`.
  public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile {
    try pass("open", path, writes: mode != .read && mode != .folder)
    return try base.open(path, mode)
  }

  /// See `FileSystem`.
  public func read(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
    switch next() {
    case .eio?: throw FileError("read", file.path, EIO)
    case .eintr?: throw FileError("read", file.path, EINTR)
    case .tear?: _exit(137)
    case .short? where buffer.count > 1:
      return try base.read(file, UnsafeMutableRawBufferPointer(rebasing: buffer[..<(buffer.count / 2)]))
    default: return try base.read(file, buffer)
    }
  }

  /// See `FileSystem`.
  public func write(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) -> Int {
    let half = UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)])
    switch next() {
    case .enospc?: throw FileError("write", file.path, ENOSPC)
    case .eio?: throw FileError("write", file.path, EIO)
    case .eintr?: throw FileError("write", file.path, EINTR)
    case .tear?:
      _ = try base.write(file, half)
      _exit(137)
    case .short? where bytes.count > 1: return try base.write(file, half)
    default: return try base.write(file, bytes)
    }
  }

  /// See `FileSystem`.
  public func sync(_ file: OpenFile) throws(FileError) {
    try pass("fsync", file.path)
    try base.sync(file)
  }

  /// See `FileSystem`.
  public func syncAll(_ file: OpenFile) throws(FileError) {
    try pass("syncfs", file.path)
    try base.syncAll(file)
  }

  /// See `FileSystem`. The file is closed even where closing is said to have failed, as the system does it.
  public func close(_ file: OpenFile) throws(FileError) {
    var failure: FileError?
    do throws(FileError) { try pass("close", file.path) } catch { failure = error }
    try base.close(file)
    if let failure { throw failure }
  }

  /// See `FileSystem`.
  public func rename(_ from: String, _ to: String) throws(FileError) {
    try pass("rename", to)
    try base.rename(from, to)
  }

  /// See `FileSystem`.
  public func link(_ from: String, _ to: String) throws(FileError) {
    try pass("link", to)
    try base.link(from, to)
  }

  /// See `FileSystem`.
  public func unlink(_ path: String) throws(FileError) {
    try pass("unlink", path, writes: false)
    try base.unlink(path)
  }

  /// See `FileSystem`.
  public func makeFolder(_ path: String) throws(FileError) {
    try pass("mkdir", path)
    try base.makeFolder(path)
  }

  /// See `FileSystem`.
  public func touch(_ path: String) throws(FileError) {
    try pass("touch", path, writes: false)
    try base.touch(path)
  }
}

/// The file system of this process: the real one, or with the fault that `FLOW_FAULT` asks for (`kill@N`, `tear@N`,
/// `enospc@N`, `eio@N`, `eintr@N`, `short@N`, `emfile@N`, each with `+` for all later calls too, or `count`, which
/// prints the number of calls at the end). With `FLOW_FAULT_ROLE` the fault is that of `main` or of `worker` processes.
public enum Disk {
  private static let role = Mutex("main")

  /// Says that this process is a worker; before the first use of `standard`.
  public static func becomeWorker() { role.withLock { $0 = "worker" } }

  /// The file system that a store uses unless it is given another.
  public static let standard: any FileSystem = {
    let environment = ProcessInfo.processInfo.environment
    guard let text = environment["FLOW_FAULT"], let fault = Fault(text) else { return RealFileSystem() }
    let role = Disk.role.withLock { $0 }
    guard (environment["FLOW_FAULT_ROLE"] ?? role) == role else { return RealFileSystem() }
    let faulty = FaultyFileSystem(RealFileSystem(), fault)
    if fault.kind == .count {
      counted.withLock { $0 = (role, faulty) }
      atexit {
        guard let (role, disk) = Disk.counted.withLock({ $0 }) else { return }
        FileHandle.standardError.write(Data("fault points of \(role): \(disk.count)\n".utf8))
      }
    }
    return faulty
  }()

  private static let counted = Mutex<(String, FaultyFileSystem)?>(nil)
}
