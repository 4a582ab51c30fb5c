import FlowCore
import FlowStageKit
import Foundation
import Testing

@testable import FlowPlan

@Suite struct LicenseTests {
  @Test(arguments: [
    ("CC0-1.0", "CC0-1.0"), ("cc-by-sa-4.0", "CC-BY-SA-4.0"), ("Apache-2.0+", "Apache-2.0+"),
    ("MIT OR Apache-2.0", "MIT OR Apache-2.0"), ("(MIT)", "MIT"), ("((MIT AND ISC))", "MIT AND ISC"),
    ("MIT AND (ISC OR Zlib)", "MIT AND (ISC OR Zlib)"), ("MIT AND ISC OR Zlib", "MIT AND ISC OR Zlib"),
    ("GPL-2.0-or-later with x", nil), ("LicenseRef-own.songs-2", "LicenseRef-own.songs-2"),
    ("GPL-2.0-only WITH classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
    ("DocumentRef-a:LicenseRef-b", "DocumentRef-a:LicenseRef-b"), ("NOASSERTION", "NOASSERTION"),
    ("", nil), ("()", nil), ("MIT AND", nil), ("AND MIT", nil), ("(MIT", nil), ("MIT)", nil),
    ("MIT ISC", nil),
    ("MIT and ISC", nil), ("MIT WITH", nil), ("MIT WITH MIT", nil), ("LicenseRef-", nil),
    ("LicenseRef-a_b", nil),
    ("CC-BY", nil), ("MIT++", nil), ("a:b:c", nil),
    (String(repeating: "(", count: 900) + "MIT" + String(repeating: ")", count: 900), nil),
    (String(repeating: "MIT AND ", count: 900) + "MIT", nil),
  ])
  func anExpressionIsReadOrRefused(_ text: String, _ written: String?) {
    #expect((try? LicenseExpression(text))?.description == written, "\(text.prefix(60))")
    if let written { #expect((try? LicenseExpression(written))?.description == written) }
  }

  @Test(arguments: [
    ("CC0", "did you mean 'CC0-1.0'?"), ("GPL-3.0", "'GPL-3.0-only'"), ("CC-BY-4", "'CC-BY-4.0'"),
    ("Apache2.0", "did you mean 'Apache-2.0'?"), ("MIT and ISC", "write AND"),
    ("proprietary", "LicenseRef-NAME"),
    ("MIT WITH LLVM-exeption", "did you mean 'LLVM-exception'?"),
  ])
  func whatWasMeantIsSaid(_ text: String, _ hint: String) {
    #expect { try LicenseExpression(text) } throws: { error in
      (error as? LicenseExpression.Mistake)?.hint?.contains(hint) == true
    }
  }

  @Test(arguments: [
    ("MIT", ["MIT"], [String]()), ("MIT", ["ISC"], ["MIT"]), ("MIT OR ISC", ["ISC"], []),
    ("MIT AND ISC", ["ISC"], ["MIT"]), ("MIT OR Zlib", ["ISC"], ["MIT", "Zlib"]),
    ("MIT AND (ISC OR Zlib)", ["MIT", "Zlib"], []), ("Apache-2.0+", ["Apache-2.0"], []),
    ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], []),
    ("GPL-2.0-only", ["GPL-2.0-only WITH Classpath-exception-2.0"], ["GPL-2.0-only"]),
    ("NOASSERTION", ["MIT"], ["NOASSERTION"]), ("NOASSERTION", ["NOASSERTION"], []), ("MIT", [], ["MIT"]),
  ])
  func whatIsNotListedIsRefused(_ text: String, _ allow: [String], _ refused: [String]) throws {
    #expect(try LicenseExpression(text).refused(allow: Set(allow)) == refused)
  }

  @Test func licencesJoin() throws {
    let parts = try ["MIT OR ISC", "CC0-1.0", "CC0-1.0 AND MIT"].map(LicenseExpression.init)
    #expect(LicenseExpression.joined(parts).description == "CC0-1.0 AND MIT AND (MIT OR ISC)")
    #expect(LicenseExpression.joined([]).description == "NOASSERTION")
    #expect(LicenseExpression.joined([parts[0]]).description == "MIT OR ISC")
  }

  @Test(arguments: [
    ("license: CC0-1.0", "license: CC0", "did you mean 'CC0-1.0'?", 4),
    ("flow: 1", "flow: 1\nlicenses: { allow: [CC0] }", "did you mean 'CC0-1.0'?", 2),
    ("flow: 1", "flow: 1\nlicenses: { allow: [MIT OR ISC] }", "one entry for each", 2),
  ])
  func aMistakeInAPipelineIsSaid(_ from: String, _ to: String, _ says: String, _ line: Int) throws {
    let hit = try #require(Fixture.mistakes(Fixture.good.replacingOccurrences(of: from, with: to)).first)
    #expect(hit.code == "E029" && hit.label?.contains(says) == true && hit.location?.line == line)
  }

  /// What a file says of its own songs holds for no others.
  @Test func aLicenceIsOfThePathItStandsBeside() throws {
    #expect(try Fixture.plan(Fixture.good).sources[0].license == "CC0-1.0")
    #expect(try Fixture.plan(Fixture.good, ["sources.songs.path=mine"]).sources[0].license == nil)
    let said = ["sources.songs.path=mine", "sources.songs.license=mit"]
    #expect(try Fixture.plan(Fixture.good, said).sources[0].license == "MIT")
    #expect(try Fixture.plan(Fixture.good, ["sources.songs.license=MIT"]).sources[0].license == "MIT")
    func extended(_ text: String) throws -> PlannedSource? {
      try Resolver.plan(file: "own.yaml", text: "extends: base.yaml\n\(text)", catalog: Fixture.catalog) {
        _ in
        Fixture.good
      }.sources.first
    }
    #expect(try extended("name: x\n")?.license == "CC0-1.0")
    #expect(try extended("sources: { songs: { path: mine } }\n")?.license == nil)
  }
}
