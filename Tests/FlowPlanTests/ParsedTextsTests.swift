import FlowCore
import Foundation
import Testing

@testable import FlowPlan

@Suite struct ParsedTextsTests {
  private static let text = """
    flow: 1 # comment
    params: { rate: 1e-3, name: "12", list: [1, ~, true, 'x y'] }
    stages:
      train: { with: { rate: "${params.rate}" } }
      "odd key":
        - a: |
            two
            lines
    """

  private func tree(_ text: String, _ parsed: ParsedTexts?, file: String = "p.yaml") -> Document {
    Document(file: file, text: text, parsed: parsed)
  }

  /// What a tree holds with its places.
  private func listing(_ node: DocumentNode?) -> String {
    guard let node else { return "none" }
    let place = node.place.map { "\($0.file):\($0.line):\($0.column)+\($0.length) " } ?? ""
    switch node.content {
    case .scalar(let text, let plain): return "\(place)\(plain ? "" : "'")\(text)"
    case .sequence(let elements): return "\(place)[\(elements.map(listing).joined(separator: ", "))]"
    case .mapping(let members):
      return "\(place){\(members.map { "\(listing($0.key)): \(listing($0.value))" }.joined(separator: ", "))}"
    }
  }

  @Test func aKeptTreeIsTheTreeOfItsText() {
    let fresh = tree(ParsedTextsTests.text, nil)
    let first = ParsedTexts(nil)
    #expect(listing(tree(ParsedTextsTests.text, first).root) == listing(fresh.root))
    let again = ParsedTexts(first.bytes)
    #expect(listing(tree(ParsedTextsTests.text, again).root) == listing(fresh.root))
    #expect(again.bytes == nil, "nothing is new")
    // Under another name, with its places there.
    let moved = listing(tree(ParsedTextsTests.text, again, file: "q.yaml").root)
    #expect(moved == listing(fresh.root).replacingOccurrences(of: "p.yaml", with: "q.yaml"))
  }

  @Test func anEditedTextIsReadAnew() throws {
    let first = ParsedTexts(nil)
    _ = tree(ParsedTextsTests.text, first)
    let again = ParsedTexts(first.bytes)
    let edited = ParsedTextsTests.text.replacingOccurrences(of: "1e-3", with: "1e-4")
    #expect(listing(tree(edited, again).root).contains("1e-4"))
    let both = ParsedTexts(again.bytes)
    _ = tree(ParsedTextsTests.text, both)
    _ = tree(edited, both)
    #expect(both.bytes == nil, "the text of before is kept too")
  }

  @Test func aMistakenTextIsNotKept() {
    let parsed = ParsedTexts(nil)
    #expect(!tree("a: 1\na: 2", parsed).problems.isEmpty)
    #expect(!tree("a: [", parsed).problems.isEmpty)
    #expect(parsed.bytes == nil)
  }

  /// Whatever the file holds, the tree is right or read anew.
  @Test func damagedBytesAreNoTree() {
    let first = ParsedTexts(nil)
    let good = listing(tree(ParsedTextsTests.text, first).root)
    let bytes = first.bytes ?? []
    #expect(!bytes.isEmpty)
    for count in stride(from: 0, to: bytes.count, by: 7) {
      #expect(listing(tree(ParsedTextsTests.text, ParsedTexts(Array(bytes[..<count]))).root) == good)
    }
    #expect(
      listing(tree(ParsedTextsTests.text, ParsedTexts([UInt8](repeating: 255, count: 300))).root) == good)
  }
}
