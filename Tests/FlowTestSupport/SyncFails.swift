public import FlowCore
import Foundation
import Synchronization

/// A disk that counts syncs, and may fail them.
public final class SyncFails: FileSystem {
  private let base = RealFileSystem()
  private let fails: Bool
  private let syncs = Atomic<Int>(0)

  /// One whose syncs all fail, or are only counted.
  public init(fails: Bool = true) { self.fails = fails }

  /// Syncs so far.
  public var count: Int { syncs.load(ordering: .relaxed) }

  private func note(_ call: String, _ file: OpenFile) throws(FileError) {
    syncs.add(1, ordering: .relaxed)
    if fails { throw FileError(call, file.path, EIO) }
  }

  /// See `FileSystem`.
  public func sync(_ file: OpenFile) throws(FileError) { try note("fsync", file) }
  /// See `FileSystem`.
  public func syncAll(_ file: OpenFile) throws(FileError) { try note("syncfs", file) }
  /// See `FileSystem`.
  public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> OpenFile {
    try base.open(path, mode)
  }
  /// See `FileSystem`.
  public func read(_ file: OpenFile, _ buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
    try base.read(file, buffer)
  }
  /// See `FileSystem`.
  public func write(_ file: OpenFile, _ bytes: UnsafeRawBufferPointer) throws(FileError) -> Int {
    try base.write(file, bytes)
  }
  /// See `FileSystem`.
  public func close(_ file: OpenFile) throws(FileError) { try base.close(file) }
  /// See `FileSystem`.
  public func rename(_ from: String, _ to: String) throws(FileError) { try base.rename(from, to) }
  /// See `FileSystem`.
  public func link(_ from: String, _ to: String) throws(FileError) { try base.link(from, to) }
  /// See `FileSystem`.
  public func unlink(_ path: String) throws(FileError) { try base.unlink(path) }
  /// See `FileSystem`.
  public func makeFolder(_ path: String) throws(FileError) { try base.makeFolder(path) }
  /// See `FileSystem`.
  public func touch(_ path: String) throws(FileError) { try base.touch(path) }
}
