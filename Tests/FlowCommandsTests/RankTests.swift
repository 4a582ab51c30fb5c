import FlowCore
import FlowEngine
import FlowStageKit
import FlowTestSupport
import Foundation
import Testing

@testable import FlowCommands

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
  @Test func ranksOnProcessorsOfTwoClassesAreRefused() throws {
    let said = try ThreadRank.run(2) { rank -> String in
      do { try RankCheck.agree(rank, processor: rank.rank == 0 ? "haswell" : "skylakex") } catch let error
        as StageFailure
      {
        return error.message
      }
      return "fine"
    }
    #expect(said[0] == "fine" && said[1].contains("class skylakex, the first on one of haswell"), "\(said)")
  }

  @Test func aMissingLauncherIsNamedWithItsPackage() throws {
    let shell = try Shell(bare: true)
    let result = try shell.run(["doctor", "--ranks", "2"], environment: ["PATH": shell.folder.path])
    #expect(result.code == 4)
    let lines = result.out.split(separator: "\n")
    let place = try #require(lines.firstIndex { $0.hasPrefix("FAIL mpi") }, "\(result.out)")
    #expect(lines[place + 1].contains("openmpi-bin"))
  }
}

/// Trainings that 'flow run' starts on ranks.
@Suite(.enabled(if: hasMPI, "mpirun is missing: sudo apt-get install openmpi-bin"))
struct RankedRunTests {
  private static let training = Shell.sung(
    """
      train-vocoder: { in: { audio: normalise.audio }, with: { steps: 24, checkpoint: 4, frames: 2, rate: 0.0005 } }
      encode-latents: { in: { audio: normalise.audio, weights: train-vocoder.weights } }
      train-flow: { in: { latents: encode-latents.latents }, with: { steps: 24, frames: 30 } }
    """,
    outputs: "{ vocoder: train-vocoder.losses, flow: train-flow.losses, weights: train-vocoder.weights }")

  private func losses(_ shell: Shell, _ name: String) -> [Double] {
    let lines = shell.folder.text("runs/p/\(name)/losses.csv").split(separator: "\n").dropFirst()
    return lines.compactMap { Double($0.split(separator: ",", omittingEmptySubsequences: false)[1]) }
  }

  @Test func twoRanksHaveTheLossCurvesOfOne() throws {
    let shell = try Shell(pipeline: RankedRunTests.training)
    #expect(try shell("run", "--quiet").code == 0)
    var curves: [String: [Double]] = [:]
    for name in ["vocoder", "flow"] { curves[name] = losses(shell, name) }
    for name in ["vocoder", "flow"] {
      let set = "stages.train-\(name).with.ranks=2"
      #expect(try shell("plan", "--set", set).out.contains("1 to run on 2 ranks"))
      let run = try shell("run", "--set", set)
      #expect(run.code == 0, "\(run.error)")
      #expect(run.error.contains("train-\(name): 1 to run (ranks: 1 -> 2"), "\(run.error)")
      let (one, two) = (try #require(curves[name]), losses(shell, name))
      #expect(one.count == 24 && two.count == 24 && one != two)
      for (a, b) in zip(one, two) { #expect(abs(a - b) <= 0.02 * a, "\(name): \(a), \(b)") }
      #expect(abs(one[0] - two[0]) <= 1e-5 * one[0])
    }
  }

  /// Of this project's ranks, that with this number.
  static func rank(_ number: Int, _ shell: Shell) -> pid_t? {
    let own = URL(fileURLWithPath: shell.folder.path).resolvingSymlinksInPath().path
    for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
      guard let process = pid_t(name),
        let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(name)/cwd"),
        place == own,
        let environment = FileManager.default.contents(atPath: "/proc/\(name)/environ")
      else { continue }
      let words = environment.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      if words.contains("OMPI_COMM_WORLD_RANK=\(number)") { return process }
    }
    return nil
  }

  @Test func aKilledRankEndsTheJobAndTheNextRunGoesOnToTheSameBytes() throws {
    let options = ["--to", "train-vocoder", "--set", "stages.train-vocoder.with.ranks=2"]
    let whole = try Shell(pipeline: RankedRunTests.training)
    #expect(try whole.run(["run"] + options).code == 0)
    let again = try Shell(pipeline: RankedRunTests.training)
    #expect(try again.run(["run"] + options).code == 0)
    let weights = try #require(whole.folder.read("runs/p/weights/decoder.safetensors"))
    #expect(again.folder.read("runs/p/weights/decoder.safetensors") == weights)

    let killed = try Shell(pipeline: RankedRunTests.training)
    for number in [1, 0] {
      let process = try killed.start(["run"] + options)
      // A checkpoint that this try wrote, so that both kills leave one to go on from.
      let begin = Date()
      #expect(killed.wait { (Self.checkpoint(killed) ?? .distantPast) > begin || !process.isRunning })
      let victim = try #require(Self.rank(number, killed))
      let time = Date()
      kill(victim, SIGKILL)
      process.waitUntilExit()
      #expect(process.terminationStatus == 1 && Date().timeIntervalSince(time) < 20)
      #expect(killed.out.contains("rank \(number) of 2 was killed"), "\(killed.out)")
      #expect(killed.wait { Self.rank(0, killed) == nil && Self.rank(1, killed) == nil })
    }
    let last = try killed.run(["run"] + options)
    #expect(last.code == 0, "\(last.error)")
    #expect(try killed.run(["log", "train-vocoder"] + options.suffix(2)).out.contains("resumed at step"))
    #expect(killed.folder.read("runs/p/weights/decoder.safetensors") == weights)
  }

  /// When the checkpoint of the training was written.
  static func checkpoint(_ shell: Shell) -> Date? {
    let work = shell.folder.path + "/cache/work"
    for key in (try? FileManager.default.contentsOfDirectory(atPath: work)) ?? [] {
      let path = "\(work)/\(key)/checkpoint/training.safetensors"
      if let date = try? FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date {
        return date
      }
    }
    return nil
  }

  @Test func whatFailsOnAllRanksIsSaidAsByOneAndATimeLimitHolds() throws {
    let shell = try Shell(pipeline: RankedRunTests.training)
    let options = ["run", "--to", "train-vocoder", "--set", "stages.train-vocoder.with.ranks=2"]
    let failed = try shell.run(options + ["--set", "stages.train-vocoder.with.rate=1e30"])
    #expect(failed.code == 1)
    #expect(failed.out.contains("failed    train-vocoder: the loss is not a number at step"), "\(failed.out)")
    let steps = [
      "--set", "stages.train-vocoder.with.steps=100000", "--set", "stages.train-vocoder.timeout=3",
    ]
    let late = try shell.run(options + steps)
    #expect(late.code == 1 && late.out.contains("it took longer than 3 s"), "\(late.out)")
    #expect(shell.wait { Self.rank(0, shell) == nil && Self.rank(1, shell) == nil })
  }

  @Test func anInterruptLeavesACheckpointOfTheLastStep() throws {
    let shell = try Shell(pipeline: RankedRunTests.training)
    let set = ["--set", "stages.train-vocoder.with.ranks=2", "--set", "stages.train-vocoder.with.steps=400"]
    let process = try shell.start(["run"] + set)
    #expect(shell.wait { Self.checkpoint(shell) != nil })
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationStatus == 130)
    #expect(try shell.run(["log", "train-vocoder"] + set).out.contains("stopped after step"))
    #expect(shell.wait { Self.rank(0, shell) == nil && Self.rank(1, shell) == nil })
  }
}
