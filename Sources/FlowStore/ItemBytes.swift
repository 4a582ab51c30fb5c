public import FlowCore

extension ByteWriter {
  /// The items of ports, by the ports' names.
  public mutating func ports(_ ports: [String: [Item]]) {
    list(ports.count > 1 ? ports.sorted { $0.key < $1.key } : Array(ports)) { writer, port in
      writer.text(port.key)
      writer.list(port.value) { $0.item($1) }
    }
  }

  private mutating func item(_ item: Item) {
    text(item.id)
    list(item.files) { writer, file in
      writer.text(file.name)
      writer.digest(file.digest)
      writer.number(file.size)
    }
    text(item.attributes.isEmpty ? "" : JSON.object(item.attributes).canonical)
  }

  /// Numbers by name, with their exact bits.
  public mutating func metrics(_ metrics: [String: Double]) {
    list(metrics.count > 1 ? metrics.sorted { $0.key < $1.key } : Array(metrics)) { writer, entry in
      writer.text(entry.key)
      writer.double(entry.value)
    }
  }
}

extension ByteReader {
  /// What `ByteWriter.ports` wrote; `nil` when it is faulty.
  public mutating func ports() -> [String: [Item]]? {
    list { reader -> (String, [Item])? in
      guard let port = reader.text(), let items = reader.list({ $0.item() }) else { return nil }
      return (port, items)
    }.map { Dictionary($0, uniquingKeysWith: { $1 }) }
  }

  private mutating func item() -> Item? {
    guard let id = text(),
      let files = list({ reader -> ItemFile? in
        guard let name = reader.text(), let digest = reader.digest(), let size = reader.number() else {
          return nil
        }
        return ItemFile(name: name, digest: digest, size: size)
      }),
      let attributes = text()
    else { return nil }
    guard !attributes.isEmpty else { return Item(id: id, files: files) }
    guard case .object(let members)? = try? JSON(parsing: attributes.utf8) else { return nil }
    return Item(id: id, files: files, attributes: members)
  }

  /// What `ByteWriter.metrics` wrote; `nil` when it is faulty.
  public mutating func metrics() -> [String: Double]? {
    list { reader -> (String, Double)? in
      guard let name = reader.text(), let value = reader.double() else { return nil }
      return (name, value)
    }.map { Dictionary($0, uniquingKeysWith: { $1 }) }
  }
}
