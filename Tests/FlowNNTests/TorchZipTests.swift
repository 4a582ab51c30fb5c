import FlowNN
import FlowTensor
import Foundation
import Testing

/// What is wrong with an archive itself, not with its pickle.
@Suite struct TorchZipTests {
  private func valid(_ builder: inout PickleBuilder) {
    builder.tensor("0", count: 6, shape: [2, 3], strides: [3, 1])
  }

  @Test func brokenArchivesAreRefused() throws {
    let pickle = PickleBuilder.file(2, valid)
    func refusal(_ change: (inout ZipBuilder) -> Void) -> String {
      var zip = ZipBuilder(pickle)
      change(&zip)
      do { _ = try TorchArchive(data: Data(zip.bytes)) } catch { return "\(error)" }
      return "accepted"
    }
    #expect(refusal { _ in } == "accepted")
    #expect(refusal { $0.isWide = true } == "accepted")
    #expect(refusal { $0.entries[2].isWide = true } == "accepted")
    #expect(refusal { $0.entries[0].method = 8 }.contains("'any/data.pkl' is compressed"))
    #expect(refusal { $0.entries[2].flags = 1 }.contains("is encrypted"))
    #expect(refusal { $0.entries[0].checksum = 5 }.contains("'any/data.pkl' is damaged"))
    #expect(refusal { $0.entries[2].size = 1 << 30 }.contains("reaches out of the file"))
    #expect(refusal { $0.entries[2].size = 23 }.contains("has 23 bytes, but the pickle says"))
    #expect(refusal { $0.entries[2].offset = 0 }.contains("another name in its own header"))
    #expect(refusal { $0.entries[2].offset = 1 << 31 }.contains("is not where the directory says"))
    #expect(refusal { $0.entries[2].localName = "any/data/1" }.contains("another name"))
    #expect(refusal { $0.entries.append($0.entries[2]) }.contains("two entries 'any/data/0'"))
    #expect(refusal { $0.entries.append(.init(name: "b/data.pkl", data: [])) }.contains("several data.pkl"))
    #expect(refusal { $0.entries.removeFirst() }.contains("no data.pkl"))
    #expect(refusal { $0.entries[1].data = Array("big".utf8) }.contains("not little-endian"))
    #expect(refusal { $0.trailer = [0] }.contains("no end record"))
    // A bomb whose entries share their bytes: one lies, header and all, within another.
    #expect(
      refusal { zip in
        let hidden = ZipBuilder.Entry(name: "any/data/1", data: [UInt8](repeating: 0, count: 24))
        var inner = zip
        inner.entries = [hidden]
        let before = zip.entries[..<2].reduce(0) { $0 + 30 + $1.name.utf8.count + $1.data.count }
        zip.entries[2].data = Array(inner.bytes.prefix(30 + hidden.name.utf8.count + 24))
        zip.entries.append(hidden)
        zip.entries[3].offset = before + 30 + zip.entries[2].name.utf8.count
      } == "the entries 'any/data/0' and 'any/data/1' overlap")
    let bytes = ZipBuilder(pickle).bytes
    for length in stride(from: 0, to: bytes.count, by: 7) {
      #expect(throws: TorchError.self) { try TorchArchive(data: Data(bytes[..<length])) }
    }
    #expect(throws: TorchError.self) { try TorchArchive(data: Data([0x80, 2, 0x8A, 0x0A] + bytes)) }
    let damaged = try TorchArchive(
      data: Data(
        {
          var zip = ZipBuilder(pickle)
          zip.entries[2].checksum = 1
          return zip.bytes
        }()))
    #expect {
      try damaged.tensor(#require(damaged.entries()["w"]), named: "w")
    } throws: {
      "\($0)".contains("'any/data/0' is damaged")
    }
  }

  /// 20,000 archives with some bytes of pickle or directory changed: each is read or refused.
  @Test func mutantsNeverCrash() throws {
    let bytes = ZipBuilder(PickleBuilder.file(4, valid)).bytes
    var random = SystemRandomNumberGenerator()
    var refused = 0
    for _ in 0..<20_000 {
      var mutant = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        mutant[Int.random(in: 0..<mutant.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      do {
        let archive = try TorchArchive(data: Data(mutant))
        for (name, entry) in try archive.entries() { _ = try archive.tensor(entry, named: name) }
      } catch is TorchError { refused += 1 }
    }
    #expect(refused > 10_000)
  }
}
