import FlowCommands

await Flow.main()
