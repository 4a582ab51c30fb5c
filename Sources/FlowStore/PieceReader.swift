import FlowCore
import Foundation
import Synchronization

/// Reads a file piece by piece. A large one is read ahead on a thread of its own, so that whoever digests it never waits
/// for the copying.
///
/// Unchecked, but safe: a buffer belongs to the reading thread from `free` to `filled` and to the caller from `filled` to
/// `free`; `position` and `length` are the reading side's alone, `turn` and `isOver` the caller's; results are behind a lock.
final class PieceReader: @unchecked Sendable {
  private static let large = 8 << 20
  private let file: OpenFile
  private let disk: any FileSystem
  private let length: (Int) -> Int
  private let buffers: [UnsafeMutableRawBufferPointer]
  private let isAhead: Bool
  private let filled = DispatchSemaphore(value: 0), free: DispatchSemaphore
  private let results: Mutex<[Result<Int, FileError>]>
  private var position = 0, turn = 0, isOver = false
  private let stopped = Atomic<Bool>(false)
  private let over = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - size: the file's size, as far as known: whether a thread pays.
  ///   - length: how long the piece at a position is, 1 MiB at most.
  init(_ file: OpenFile, _ disk: any FileSystem, size: Int, length: @escaping (Int) -> Int) {
    self.file = file
    self.disk = disk
    self.length = length
    isAhead = size >= PieceReader.large
    let most = size < Packer.most ? max(size + 1, 1) : Packer.most
    buffers = (0..<(isAhead ? 3 : 1)).map { _ in .allocate(byteCount: most, alignment: 4096) }
    results = Mutex(Array(repeating: .success(0), count: buffers.count))
    // The buffer that was handed out last is in use until the next is asked for.
    free = DispatchSemaphore(value: 0)
    for _ in buffers { free.signal() }
    if isAhead {
      Thread { [self] in
        var at = 0
        while true {
          free.wait()
          if stopped.load(ordering: .acquiring) { break }
          let result = read(at)
          results.withLock { $0[at] = result }
          let isLast = (try? result.get()) ?? 0 == 0
          filled.signal()
          if isLast { break }
          at = (at + 1) % buffers.count
        }
        over.signal()
      }.start()
    }
  }

  deinit { for buffer in buffers { buffer.deallocate() } }

  private func read(_ at: Int) -> Result<Int, FileError> {
    let count = min(length(position), buffers[at].count)
    do throws(FileError) {
      let got = try disk.fill(file, .init(rebasing: buffers[at][..<count]))
      position += got
      return .success(got)
    } catch { return .failure(error) }
  }

  /// The next piece, good until the next call; `nil` at the end.
  func next() throws(StoreError) -> UnsafeRawBufferPointer? {
    guard isAhead else {
      switch read(0) {
      case .success(let count):
        return count == 0 ? nil : UnsafeRawBufferPointer(rebasing: buffers[0][..<count])
      case .failure(let error): throw .unreadable("\(error)")
      }
    }
    if isOver { return nil }
    if turn > 0 { free.signal() }
    filled.wait()
    let at = turn % buffers.count
    turn += 1
    switch results.withLock({ $0[at] }) {
    case .success(let count):
      isOver = count == 0
      return isOver ? nil : UnsafeRawBufferPointer(rebasing: buffers[at][..<count])
    case .failure(let error):
      isOver = true
      throw .unreadable("\(error)")
    }
  }

  /// Ends reading ahead; to be called before the file is closed.
  func end() {
    guard isAhead else { return }
    stopped.store(true, ordering: .releasing)
    free.signal()
    over.wait()
  }
}
