import FlowCommands

prepareFlow()
await runFlow()
