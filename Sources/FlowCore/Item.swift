/// A file of an item: a name and the bytes' identity.
public struct ItemFile: Sendable, Hashable, Codable {
  /// The file's name, such as `audio.wav`; no slashes.
  public var name: String
  /// SHA-256 of the bytes.
  public var digest: Digest
  /// Length in bytes.
  public var size: Int

  /// A file.
  public init(name: String, digest: Digest, size: Int) {
    self.name = name
    self.digest = digest
    self.size = size
  }
}

/// One element of a data set: a song, a clip, a checkpoint.
public struct Item: Sendable, Hashable, Codable {
  /// Its name in the artifact, such as `wild-mountain-thyme` or `album/take7~2`.
  public var id: String
  /// Its files, sorted by name.
  public var files: [ItemFile]
  /// Small facts about it that later stages may read; part of their keys.
  public var attributes: [String: JSON]

  /// An item; `files` are sorted by name.
  public init(id: String, files: [ItemFile], attributes: [String: JSON] = [:]) {
    self.id = id
    self.files = files.sorted { $0.name < $1.name }
    self.attributes = attributes
  }
}

/// An item that was set aside, and why.
public struct QuarantinedItem: Sendable, Hashable, Codable {
  /// Its name.
  public var id: String
  /// The reason, for people.
  public var reason: String

  /// An item set aside because of `reason`.
  public init(id: String, reason: String) {
    self.id = id
    self.reason = reason
  }
}
