import FlowCommands

await runFlow()
