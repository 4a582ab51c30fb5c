import ArgumentParser
import FlowCore

struct Completion: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "completion",
    abstract: "Prints a completion script for a shell.",
    discussion: """
      bash: flow completion bash > ~/.local/share/bash-completion/completions/flow
      zsh:  flow completion zsh > "${fpath[1]}/_flow"
      fish: flow completion fish > ~/.config/fish/completions/flow.fish
      """)
  enum Shell: String, ExpressibleByArgument, CaseIterable { case bash, zsh, fish }
  @Argument(help: "bash, zsh or fish.") var shell: Shell

  func run() {
    let kind: CompletionShell =
      switch shell {
      case .bash: .bash
      case .zsh: .zsh
      case .fish: .fish
      }
    Terminal.out(Flow.completionScript(for: kind))
  }
}
