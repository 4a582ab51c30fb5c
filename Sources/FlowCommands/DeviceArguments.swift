public import ArgumentParser
public import FlowStages

extension DeviceKind: ExpressibleByArgument {}
extension DevicePrecision: ExpressibleByArgument {}
