public import FlowCore
import Foundation

/// Objects: bytes in, bytes out, always by what they hold.
extension Store {
  /// Stores `bytes`.
  /// - Throws: `StoreError`.
  @discardableResult
  public func put(_ bytes: [UInt8]) throws(StoreError) -> Digest {
    let digest = Digest(of: bytes)
    if isKept(digest) { return digest }
    try publish(try ObjectFile.encode(bytes), at: path(of: digest), mode: 0o444)
    return digest
  }

  /// Stores the bytes of the file at `path`, a piece at a time however large it is.
  /// - Throws: `StoreError`.
  public func put(contentsOf path: String) throws(StoreError) -> (digest: Digest, size: Int) {
    // A small file is read whole: what is there already then costs no temporary file.
    if let bytes = Store.small(path) { return (try put(bytes), bytes.count) }
    let input = try Store.openSource(path)
    defer { Foundation.close(input.file.descriptor) }
    let temporary = temporaryName()
    let output = try opening(temporary, .create(0o444))
    do throws(StoreError) {
      let digest: Digest
      do throws(StoreError) {
        digest = try ObjectFile.encode(input.file, size: input.size, to: output, disk)
      } catch {
        try? disk.close(output)
        throw error
      }
      try closing(output)
      if isKept(digest) {
        disk.discard(temporary)
      } else {
        try moving(temporary, to: self.path(of: digest))
      }
      return (digest, input.size)
    } catch {
      disk.discard(temporary)
      throw error
    }
  }

  /// The bytes of a regular file of 1 MiB at most.
  private static func small(_ path: String) -> [UInt8]? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= 1 << 20 else {
      return nil
    }
    return FileBytes.read(path)
  }

  /// Opens a file of the user's; a symbolic link is followed, what is no regular file is refused.
  static func openSource(_ path: String) throws(StoreError) -> (file: OpenFile, size: Int) {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw .unreadable("\(path): \(String(cString: strerror(errno)))") }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(file)
      throw .unreadable("\(path): not a file")
    }
    return (OpenFile(descriptor: file, path: path), Int(status.st_size))
  }

  /// Writes an object's bytes to the file at `path`, checked against its digest, a piece at a time; a damaged one is moved
  /// to quarantine.
  /// - Parameter size: the object's size where it is known: what claims to be larger is damaged.
  /// - Throws: `StoreError.missing`, `StoreError.unwritable`.
  public func materialise(_ digest: Digest, size: Int = .max, at path: String, mode: UInt32 = 0o644)
    throws(StoreError)
  {
    let input = try openObject(digest)
    defer { try? disk.close(input) }
    let folder = Path.parent(path)
    do throws(FileError) { try disk.makeFolders(folder.isEmpty ? "." : folder) } catch {
      throw StoreError(error)
    }
    let temporary = "\(folder.isEmpty ? "." : folder)/.flow-\(Temporaries.name())"
    let output = try opening(temporary, .create(mode))
    do throws(StoreError) {
      let found: Digest?
      do throws(StoreError) {
        found = try ObjectFile.decode(input, to: output, limit: size, disk)
      } catch {
        try? disk.close(output)
        throw error
      }
      try closing(output)
      guard found == digest else {
        quarantine(self.path(of: digest))
        throw .missing(digest)
      }
      try renaming(temporary, path)
    } catch {
      disk.discard(temporary)
      throw error
    }
  }

  /// Opens an object's file. What is no file is set aside.
  private func openObject(_ digest: Digest) throws(StoreError) -> OpenFile {
    let path = path(of: digest)
    do throws(FileError) {
      let file = try disk.opening(path, .read)
      var status = stat()
      if fstat(file.descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG { return file }
      try? disk.close(file)
    } catch {
      guard [ENOENT, ENOTDIR, ELOOP, ENXIO].contains(error.code) else { throw StoreError(error) }
      if error.code == ENOENT { throw .missing(digest) }
    }
    quarantine(path)
    throw .missing(digest)
  }

  /// The bytes of an object, checked against its digest; a damaged one is moved to quarantine.
  /// - Throws: `StoreError.missing`; `StoreError.unreadable` when the device fails.
  public func get(_ digest: Digest, size: Int = .max) throws(StoreError) -> [UInt8] {
    let path = path(of: digest)
    let file: [UInt8]?
    do throws(FileError) { file = try disk.contents(path) } catch {
      guard [EISDIR, ELOOP, ENXIO].contains(error.code) else { throw StoreError(error) }
      quarantine(path)
      throw .missing(digest)
    }
    guard let file else { throw .missing(digest) }
    if let bytes = try ObjectFile.decode(file, limit: size), Digest(of: bytes) == digest { return bytes }
    quarantine(path)
    throw .missing(digest)
  }
}
