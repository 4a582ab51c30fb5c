import FlowTestSupport
import Foundation
import Testing

/// `flow run --on slurm` beside scripts that answer like Slurm. `scripts/slurm-check` asks the real one.
@Suite struct SlurmTests {
  @Test func aStageIsOneArrayAndItsResultsAreThoseOfALocalRun() throws {
    let fake = try FakeSlurm(items: ["a", "b", "c"])
    let result = try fake.run()
    #expect(result.code == 0, "\(result.said)")
    #expect(fake.submissions.count == 1)
    #expect(fake.submissions[0].contains("--array=0-2 --cpus-per-task=1 --mem=192M"))
    #expect(fake.submissions[0].contains("--export=NONE"))
    #expect(fake.result("b") == "B")
    let lock = fake.folder.text("p.lock.yaml")
    try FileManager.default.removeItem(atPath: fake.folder.path + "/cache")
    let process = Process()
    process.executableURL = Shell.executable
    process.arguments = ["run", "p.yaml", "--quiet"]
    process.currentDirectoryURL = URL(fileURLWithPath: fake.folder.path)
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(fake.folder.text("p.lock.yaml") == lock)
    #expect(!lock.isEmpty)
  }

  @Test func whatIsDoneIsNotSubmittedAgain() throws {
    let fake = try FakeSlurm(items: ["a", "b"])
    #expect(try fake.run().code == 0)
    try fake.folder.write("texts/c.txt", "c")
    #expect(try fake.run().code == 0)
    #expect(fake.submissions.count == 2)
    #expect(fake.submissions[1].contains("--array=0-0 "))
    #expect(fake.result("c") == "C")
  }

  @Test func cheapItemsShareATaskOnceTheirTimeIsKnown() throws {
    let fake = try FakeSlurm(items: ["a"])
    #expect(try fake.run().code == 0)
    for item in ["b", "c", "d", "e"] { try fake.folder.write("texts/\(item).txt", item) }
    #expect(try fake.run().code == 0)
    #expect(fake.submissions.last?.contains("--array=0-0 ") == true)
    #expect(fake.result("e") == "E")
  }

  @Test func outOfMemoryIsTriedAgainWithTwiceTheMemory() throws {
    let fake = try FakeSlurm(pipeline: ", retry: { out-of-memory: 2 }")
    try fake.mode("OUT_OF_MEMORY OUT_OF_MEMORY run")
    let result = try fake.run()
    #expect(result.code == 0, "\(result.said)")
    let memory = fake.submissions.compactMap { $0.firstMatch(of: #/--mem=(\d+)M/#).map { String($0.1) } }
    #expect(memory == ["192", "384", "768"])
  }

  @Test func outOfMemoryWithoutRetriesFailsAndSaysSo() throws {
    let fake = try FakeSlurm()
    try fake.mode("OUT_OF_MEMORY")
    let result = try fake.run()
    #expect(result.code == 1)
    #expect(result.said.contains("job 40_0 ran out of its memory of 192 MiB"))
  }

  @Test func theTimeLimitIsATimeout() throws {
    let fake = try FakeSlurm(pipeline: ", timeout: 10min, retry: { timeout: 1, out-of-memory: 0 }")
    try fake.mode("TIMEOUT TIMEOUT")
    let result = try fake.run()
    #expect(result.code == 1)
    #expect(fake.submissions.count == 2)
    #expect(fake.submissions[0].contains("--time=12 "))
    #expect(result.said.contains("job 41_0 reached Slurm's time limit"))
  }

  @Test(arguments: ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "COMPLETED", "held", "gone"])
  func aLostJobIsSubmittedAgain(_ state: String) throws {
    let fake = try FakeSlurm(items: ["a", "b"])
    try fake.mode("\(state) run")
    let result = try fake.run()
    #expect(result.code == 0, "\(result.said)")
    #expect(fake.submissions.count == 2)
    #expect(fake.result("a") == "A" && fake.result("b") == "B")
  }

  @Test func aTaskThatASignalEndedIsSubmittedAgain() throws {
    let fake = try FakeSlurm(stage: "sleep 1.5; cat $FLOW_IN_TEXT/* > $FLOW_OUT_TEXT/t.txt")
    try fake.mode("term run")
    let result = try fake.run()
    #expect(result.code == 0, "\(result.said)")
    #expect(fake.submissions.count == 2)
    #expect(fake.result("a") == "a")
  }

  @Test func aJobThatIsLostAgainAndAgainIsGivenUp() throws {
    let fake = try FakeSlurm()
    try fake.mode("gone gone gone gone")
    let result = try fake.run("--slurm", "losses=2")
    #expect(result.code == 1)
    #expect(fake.submissions.count == 3)
    #expect(result.said.contains("is gone from Slurm's queue (3 times)"))
  }

  @Test func aFailureInTheTaskIsThatOfItsItemOnly() throws {
    let fake = try FakeSlurm(
      items: ["a", "bad", "c"], stage: "cat $FLOW_IN_TEXT/* | grep -v bad > $FLOW_OUT_TEXT/t.txt")
    let result = try fake.run("--slurm", "tasks=1")
    #expect(result.code == 0, "\(result.said)")
    #expect(fake.submissions.count == 1)
    #expect(result.said.contains("bad was set aside"))
    #expect(fake.result("a") == "a\n" && fake.result("c") == "c\n")
  }

  @Test func anInterruptCancelsTheJobs() throws {
    let fake = try FakeSlurm(stage: "sleep 60")
    let process = try fake.start()
    #expect(fake.eventually { !fake.folder.text("fake/pid.40.0").isEmpty })
    kill(process.processIdentifier, SIGINT)
    process.waitUntilExit()
    #expect(process.terminationStatus == 130, "\(fake.folder.text(".said"))")
    #expect(fake.folder.text("fake/cancelled") == "40\n")
  }

  @Test func aNewSubmitterWaitsForTheJobsOfOneThatDied() throws {
    let fake = try FakeSlurm(items: ["a", "b"])
    try fake.mode("slow")
    let process = try fake.start()
    #expect(fake.eventually { !fake.folder.text("fake/pid.40.1").isEmpty })
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    let result = try fake.run()
    #expect(result.code == 0, "\(result.said)")
    #expect(fake.submissions.count == 1)
    #expect(fake.result("a") == "A" && fake.result("b") == "B")
  }

  @Test func answersThatCantBeReadAreReported() throws {
    let queue = try FakeSlurm(stage: "sleep 5")
    try queue.folder.write("fake/garbage", "")
    let first = try queue.run()
    #expect(first.code == 1)
    #expect(first.said.contains("squeue says: 'what?', which flow can't read"))

    let batch = try FakeSlurm()
    try batch.folder.write("fake/mute", "")
    let second = try batch.run()
    #expect(second.code == 1)
    #expect(second.said.contains("sbatch says: 'well', which is no job's number"))
  }

  @Test func withoutSlurmNothingIsRun() throws {
    let fake = try FakeSlurm()
    let process = try fake.start(path: "/nowhere")
    process.waitUntilExit()
    #expect(process.terminationStatus == 2)
    let said = fake.folder.text(".said")
    #expect(
      said.contains("error[E055]: Slurm can't be used: sbatch says: there is no such program on the PATH"))
    #expect(!FileManager.default.fileExists(atPath: fake.folder.path + "/p.lock.yaml"))
  }

  @Test func settingsStandInTheProjectFileAndTheCommandLineWins() throws {
    let fake = try FakeSlurm()
    try fake.folder.write("flow.yaml", "flow: 1\nslurm: { partition: gpu, at-once: 3, account: voices }\n")
    #expect(try fake.run("--slurm", "partition=cpu", "--slurm-args", "--nice=5 --mail-type=END").code == 0)
    #expect(fake.submissions[0].contains("--array=0-0%3 "))
    #expect(
      fake.submissions[0].contains(
        "--partition=gpu --account=voices --partition=cpu --nice=5 --mail-type=END /"))
  }

  @Test func aTypoInASettingRunsNothing() throws {
    let fake = try FakeSlurm()
    let result = try fake.run("--slurm", "partion=gpu")
    #expect(result.code == 2)
    #expect(result.said.contains("partition"))
    #expect(fake.submissions.isEmpty)
  }
}
