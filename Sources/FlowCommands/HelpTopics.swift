/// What 'flow help TOPIC' prints beside the commands' own help.
enum HelpTopics {
  /// By name.
  static let all: [(name: String, text: String)] = [
    (
      "exit-codes",
      """
      0    done
      1    a stage failed, --frozen found a difference, or a remote's data was refused
      2    bad input: the command line, a pipeline, a stage's declaration; nothing was run
      3    a licence forbids it
      4    'flow doctor' found a fault
      129  ended by SIGHUP, with a checkpoint
      130  ended by SIGINT (Ctrl-C), with a checkpoint; a second one ends at once
      143  ended by SIGTERM, with a checkpoint

      After 129, 130 and 143 the same command goes on from where it was.
      """
    ),
    (
      "environment",
      """
      FLOW_CACHE    the cache's folder; default: cache/ in the project
      FLOW_REMOTE   the remote cache, before that of flow.yaml
      NO_COLOR      no colours, when set to anything
      TERM=dumb     progress in plain lines
      RCLONE_…      rclone's own settings, for remote caches

      'flow config --show-origin' says which of them count.
      """
    ),
    (
      "git",
      """
      Keep pipelines/*.lock.yaml in git: they say what was made from what. Two branches that both ran merge by stage, once
      git knows how (per clone):

        echo '\(MergeLock.attributes)' >> .gitattributes
        git config merge.flow-lock.name 'flow lock files'
        git config merge.flow-lock.driver '\(MergeLock.driver)'

      What one side changed is that side's. What both changed is marked 'unresolved'; git says there is a conflict, and
      'flow run' fills it in, out of the cache mostly. 'flow diff REV' reads what changed.
      """
    ),
    (
      "projects",
      """
      A project is a folder with flow.yaml or stages/. 'flow init DIR' makes one anywhere; the built-in stages come with
      the program, stages/ is for your own.

        flow.yaml         settings of the project, such as its remote cache
        stages/*.yaml     your own stages (a command's line, or stages wired together)
        pipelines/*.yaml  what to do; pipelines/*.lock.yaml what came of it
        cache/            results by content; may be deleted, costs time only
        runs/             results as files, laid out again at each run
      """
    ),
  ]

  /// The text of a topic, or the list of them.
  static func text(_ name: String) -> String? {
    if name == "topics" { return all.map(\.name).joined(separator: "\n") }
    return all.first { $0.name == name }?.text
  }
}
