import FlowTestSupport
import Foundation
import Testing

/// A project beside a Slurm of five small scripts, which runs tasks at once or has them end as its `mode` says.
struct FakeSlurm {
  let folder: TemporaryFolder

  /// A stage of `items` texts that the program `sh` turns to upper case.
  init(items: [String] = ["a"], stage: String = "", pipeline: String = "") throws {
    folder = try TemporaryFolder()
    for item in items { try folder.write("texts/\(item).txt", item) }
    try folder.write(
      "stages/shout.yaml",
      """
      stage: shout
      version: 1
      doc: Upper case.
      per: item
      run: command
      shell: true
      command: "\(stage.isEmpty ? "cat $FLOW_IN_TEXT/* | tr a-z A-Z > $FLOW_OUT_TEXT/t.txt" : stage)"
      inputs: { text: { type: files, doc: A text. } }
      outputs: { text: { type: files, doc: The same in upper case. } }
      resources: { cpu: 1, memory: 64MiB }

      """)
    try folder.write(
      "p.yaml",
      """
      flow: 1
      sources: { texts: { path: texts, license: CC0-1.0 } }
      stages: { shout: { in: { text: texts }\(pipeline) } }
      outputs: { all: shout.text }

      """)
    for (name, text) in FakeSlurm.tools {
      try folder.write("bin/\(name)", "#!/bin/sh\nF=\(folder.path)/fake\n" + text)
      try FileManager.default.setAttributes(
        [.posixPermissions: 0o755], ofItemAtPath: "\(folder.path)/bin/\(name)")
    }
    try folder.write("fake/next", "40")
    try folder.write("fake/mode", "")
  }

  /// `mode` holds a word per submission to come: a state in which its tasks end at once, `gone`, `slow`, `term`
  /// (a signal after half a second) or `run`. `node` is what a node's own environment is made by.
  private static let tools = [
    "sinfo": "echo 4",
    "scontrol": """
    case "$*" in
    *config*) echo "MaxArraySize            = 1001" ;;
    *) echo "JobId=1 JobState=X ExitCode=0:0 TRES=cpu=1,mem=192M,node=1" ;;
    esac
    """,
    "squeue": """
    [ -f $F/garbage ] && { echo "what?"; exit 0; }
    cat $F/task.* 2>/dev/null
    exit 0
    """,
    "scancel": """
    echo "$@" >>$F/cancelled
    for job in "$@"; do
      [ -f $F/pid.$job.0 ] || continue
      for f in $F/pid.$job.*; do kill -s TERM -- -$(cat $f); done
      sed -i 's/RUNNING/CANCELLED/' $F/task.$job.*
    done
    exit 0
    """,
    "sbatch": """
    case $1 in --version) echo "slurm fake"; exit 0 ;; esac
    [ -f $F/mute ] && { echo "well"; exit 0; }
    echo "$@" >>$F/submitted
    for a; do
      case $a in --job-name=*) name=${a#*=} ;; --array=*) last=${a##*-} ;; esac
      script=$a
    done
    last=${last%%[%]*}
    read job <$F/next
    echo $((job + 1)) >$F/next
    read mode rest <$F/mode
    echo "$rest" >$F/mode
    for i in $(seq 0 $last); do
      t=$F/task.$job.$i
      case $mode in
      gone) ;;
      ""|run|slow)
        [ "$mode" = slow ] && wait=1 || wait=0
        echo "$job|$i|RUNNING|$name|None" >$t
        SLURM_ARRAY_TASK_ID=$i setsid sh -c "
          echo \\$\\$ >$F/pid.$job.$i; sleep $wait; [ ! -f $F/node ] || . $F/node; sh $script; s=COMPLETED
          [ \\$? -eq 0 ] || s=FAILED
          echo \\"$job|$i|\\$s|$name|None\\" >$t.new; mv $t.new $t" >/dev/null 2>&1 &
        ;;
      term)
        echo "$job|$i|RUNNING|$name|None" >$t
        SLURM_ARRAY_TASK_ID=$i setsid sh -c "
          sh $script & sleep 0.5; kill -s TERM \\$!; wait
          echo \\"$job|$i|FAILED|$name|None\\" >$t.new; mv $t.new $t" >/dev/null 2>&1 &
        ;;
      held) echo "$job|$i|PENDING|$name|launch failed requeued held" >$t ;;
      *) echo "$job|$i|$mode|$name|None" >$t ;;
      esac
    done
    echo $job
    """,
  ]

  /// The words for the next submissions.
  func mode(_ words: String) throws { try folder.write("fake/mode", words + "\n") }

  /// The options of each `sbatch` so far.
  var submissions: [String] { folder.text("fake/submitted").split(separator: "\n").map(String.init) }

  /// Starts `flow run --on slurm`, with these programs on its `PATH`.
  func start(
    _ more: [String] = [], path: String? = nil, environment: [String: String] = [:]
  ) throws -> Process {
    let process = Process()
    let executable: URL = try #require(Shell.executable)
    process.executableURL = executable
    let settings = ["poll=0.05", "poll-most=0.1", "gather=0.05", "visibility=0.1", "patience=0.5"]
    process.arguments =
      ["run", "p.yaml", "--on", "slurm"] + settings.flatMap { ["--slurm", $0] } + more
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    process.environment = ProcessInfo.processInfo.environment.merging(
      ["PATH": path ?? "\(folder.path)/bin:/usr/bin:/bin", "FLOW_CACHE": folder.path + "/cache"]
    ) { $1 }.merging(environment) { $1 }
    let output = folder.path + "/.said"
    _ = FileManager.default.createFile(atPath: output, contents: nil)
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
    process.standardOutput = handle
    process.standardError = handle
    try process.run()
    return process
  }

  /// The same, until it has ended: exit code and all that it said.
  func run(_ more: String...) throws -> (code: Int32, said: String) {
    let process = try start(more)
    process.waitUntilExit()
    return (process.terminationStatus, folder.text(".said"))
  }

  /// Waits until `condition` holds; whether it did.
  func eventually(_ condition: () -> Bool) -> Bool {
    for _ in 0..<600 {
      if condition() { return true }
      usleep(20_000)
    }
    return false
  }

  func result(_ item: String) -> String {
    folder.text("runs/p/all/\(item)/t.txt") + folder.text("runs/p/all/\(item).txt")
  }
}
