import FlowCore
import FlowEngine
import FlowTestSupport
import Foundation
import Testing

private let hasMPI = Programs.find("mpirun") != nil

@Suite(.enabled(if: hasMPI, "mpirun is missing: sudo apt-get install openmpi-bin"))
struct RankTests {
  /// Three, so that the order of adding shows; each rank compares its sums, bit by bit, with those of that order.
  @Test(arguments: [2, 3]) func ranksHearEachOther(_ count: Int) throws {
    let result = try Shell(bare: true).run(["doctor", "--ranks", "\(count)", "--json"])
    guard case .array(let checks)? = try JSON(parsing: result.out.utf8)["checks"] else {
      return #expect(Bool(false), "\(result)")
    }
    let mpi = try #require(checks.first { $0["name"] == "mpi" })
    #expect(mpi["ok"] == true, "\(mpi)")
    #expect(mpi["detail"]?.text?.contains("\(count) ranks agree; a sum of 4 MiB takes") == true, "\(mpi)")
  }

  @Test func aRankThatWasStartedAloneSaysSo() throws {
    let result = try Shell(bare: true).run(["exec", "--cache", ".", "--check-ranks", "--ranks", "2"])
    #expect(result.code != 0 && result.error.contains("one of 1 ranks, not of 2"), "\(result.error)")
  }
}

@Suite struct WithoutRanksTests {
  @Test func aMissingLauncherIsNamedWithItsPackage() throws {
    let shell = try Shell(bare: true)
    let result = try shell.run(["doctor", "--ranks", "2"], environment: ["PATH": shell.folder.path])
    #expect(result.code == 4)
    let lines = result.out.split(separator: "\n")
    let place = try #require(lines.firstIndex { $0.hasPrefix("FAIL mpi") }, "\(result.out)")
    #expect(lines[place + 1].contains("openmpi-bin"))
  }
}
