import FlowCore
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowPlan

/// Texts that a careless reader expands without bound; how long and how much memory it takes to refuse them is measured by
/// `scripts/torture-input`.
@Suite struct BombTests {
  static let bombs: [(name: String, text: String)] = {
    func levels(_ count: Int, _ make: (Int) -> String) -> String {
      "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + (1..<count).map { "a\($0): &a\($0) \(make($0))\n" }.joined()
    }
    func nine(_ i: Int) -> String {
      "[" + Array(repeating: "*a\(i - 1)", count: 9).joined(separator: ",") + "]"
    }
    return [
      ("aliases", levels(10, nine)), ("merges", levels(10) { "{ k: v, <<: \(nine($0)) }" }),
      (
        "keys",
        "a0: &a0 [x, x]\n"
          + (1..<12).map { "? &a\($0) [*a\($0 - 1), *a\($0 - 1), *a\($0 - 1)]\n: v\n" }.joined()
      ),
      ("deep", "a: " + String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)),
      ("deeper", String(repeating: "- ", count: 300_000)),
      ("many keys", "params:\n" + (0..<70_000).map { "  k\($0): 1\n" }.joined()),
      ("long scalar", "name: " + String(repeating: "x", count: 2_000_000)),
      ("many anchors", (0..<60_000).map { "k\($0): &a\($0) v\n" }.joined()),
      ("itself", "flow: 1\nparams: &a { b: *a, c: [*a, *a] }\nstages: *a\n"),
      (
        "tags",
        "name: !!python/object/apply:os.system ['x']\n" + String(repeating: "%TAG ! x:\n", count: 3000)
      ),
    ]
  }()

  @Test(arguments: bombs.map(\.name)) func aBombIsRefused(_ name: String) throws {
    let text = try #require(BombTests.bombs.first { $0.name == name }).text
    let pipeline = Fixture.mistakes(text)
    #expect(["E001", "E003", "E004"].contains(pipeline.first?.code), "\(pipeline.first?.message ?? "taken")")
    let stage = StageCatalog.parse(file: "x.yaml", text: text).1
    #expect(["E001", "E003", "E004"].contains(stage.first?.code), "\(stage.first?.message ?? "taken")")
    // No message carries the bomb on.
    #expect(
      (pipeline + stage).allSatisfy {
        ($0.sourceLine?.utf8.count ?? 0) <= 1000 && $0.message.utf8.count < 1000
      })
  }

  /// A huge file and a device are not read to their end.
  @Test func whatIsTooLargeIsNotRead() throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/p.yaml"
    #expect(FileManager.default.createFile(atPath: path, contents: nil))
    #expect(truncate(path, 1 << 40) == 0)
    for path in [path, "/dev/zero"] {
      #expect {
        try Resolver.load(path, catalog: Fixture.catalog)
      } throws: { error in
        (error as? Diagnostics)?.all.map(\.code) == ["E003"]
      }
    }
  }
}
