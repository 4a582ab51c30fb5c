// swift-tools-version: 6.2
import PackageDescription

/// `swift run` builds for debugging, where numeric code is 10 to 170 times slower, so every target here is optimised
/// in every configuration. `FLOW_DEBUG=1 swift run …` turns that off for lldb.
let debugging = Context.environment["FLOW_DEBUG"] != nil

let house: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ] + (Context.environment["FLOW_STRICT"] != nil ? [.treatAllWarnings(as: .error)] : [])

/// For ordinary targets: quick to rebuild after an edit.
let optimized: [SwiftSetting] = house + (debugging ? [] : [.unsafeFlags(["-O"])])

/// For numeric targets: also inline and specialise across files and modules. `-num-threads` is needed: without it
/// whole-module optimisation makes one object where SwiftPM's debug link expects one per file.
let numeric: [SwiftSetting] =
  house
  + (debugging
    ? []
    : [
      .unsafeFlags([
        "-O", "-disable-batch-mode", "-wmo", "-num-threads", "2", "-cross-module-optimization",
      ])
    ])

/// Vector instructions are chosen per function at run time, so only the level is set here. No `-ffast-math`.
let kernelFlags: [CSetting] =
  debugging ? [] : [.unsafeFlags(["-O3", "-fno-math-errno", "-ffp-contract=fast"])]

/// For programs that are carried to machines without Swift: its libraries are linked in, and others are looked for in lib/
/// beside the program, by those libraries too (the newer kind of path is not handed on).
let portable: [LinkerSetting] = [
  .unsafeFlags(["-static-stdlib", "-lCoreFoundation", "-l_FoundationCollections"]),
  .unsafeFlags(["-l_FoundationCShims", "-l_FoundationICU", "-use-ld=lld"]),
  .unsafeFlags(["-Xlinker", "-rpath", "-Xlinker", "$ORIGIN/lib", "-Xlinker", "--disable-new-dtags"]),
  .unsafeFlags(["-Xlinker", "--gc-sections"]),
]

/// A C library of the system, with the Debian package that brings its header.
func system(_ name: String, _ pkgConfig: String, apt: String) -> Target {
  .systemLibrary(name: name, path: "Sources/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: "\(name)Tests",
    dependencies: [.init(stringLiteral: name), "FlowTestSupport"] + dependencies,
    swiftSettings: optimized)
}

/// Only where it is asked for: `scripts/torture-input` builds it with AddressSanitizer.
let fuzz: [Target] =
  Context.environment["FLOW_FUZZ"] == nil
  ? []
  : [
    .executableTarget(
      name: "flow-fuzz", dependencies: ["FlowCore", "FlowPlan", "FlowNN"], path: "Benchmarks/flow-fuzz",
      swiftSettings: optimized)
  ]

let package = Package(
  name: "flow",
  products: [.executable(name: "flow", targets: ["flow"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // C
    system("CSndFile", "sndfile", apt: "libsndfile1-dev"),
    system("CSampleRate", "samplerate", apt: "libsamplerate0-dev"),
    system("CZstd", "libzstd", apt: "libzstd-dev"),
    system("CZlib", "zlib", apt: "zlib1g-dev"),
    system("CCrypto", "libcrypto", apt: "libssl-dev"),
    .target(name: "COpenBLAS", cSettings: kernelFlags),
    .target(name: "CKernels", dependencies: ["COpenBLAS"], cSettings: kernelFlags),
    // The kernels' texts are parts of kernels.c by `#embed`.
    .target(name: "CCUDA", exclude: ["kernels"], cSettings: [.unsafeFlags(["-Wno-c23-extensions"])]),
    .target(name: "CFluidSynth"),
    .target(name: "CProcess"),
    .target(name: "CMPI", cSettings: kernelFlags),
    .target(name: "CCodec", dependencies: ["CZstd"], cSettings: kernelFlags),

    // 0
    .target(name: "FlowCore", dependencies: ["CCrypto", "CProcess"], swiftSettings: optimized),

    // 1
    .target(name: "FlowMPI", dependencies: ["FlowCore", "CMPI"], swiftSettings: optimized),
    .target(name: "FlowTensor", dependencies: ["FlowCore"], swiftSettings: numeric),
    .target(
      name: "FlowTensorCPU", dependencies: ["FlowCore", "FlowTensor", "CKernels", "COpenBLAS"],
      swiftSettings: numeric),
    .target(
      name: "FlowTensorCUDA", dependencies: ["FlowCore", "FlowTensor", "CCUDA"], swiftSettings: numeric),

    // 2
    .target(name: "FlowNN", dependencies: ["FlowCore", "FlowTensor", "CZlib"], swiftSettings: numeric),
    .target(
      name: "FlowAudio",
      dependencies: ["FlowCore", "CKernels", "COpenBLAS", "CSndFile", "CSampleRate", "CZlib"],
      swiftSettings: numeric),
    .target(
      name: "FlowScore", dependencies: ["FlowCore", "CFluidSynth"], swiftSettings: optimized),
    .target(name: "FlowStore", dependencies: ["FlowCore", "CCodec", "CZstd"], swiftSettings: optimized),
    .target(name: "FlowStageKit", dependencies: ["FlowCore"], swiftSettings: optimized),

    // 3
    .target(
      name: "FlowModels", dependencies: ["FlowCore", "FlowTensor", "FlowNN", "FlowAudio"],
      swiftSettings: numeric),
    .target(
      name: "FlowPlan",
      dependencies: ["FlowCore", "FlowStageKit", .product(name: "Yams", package: "Yams")],
      swiftSettings: optimized),

    // 4
    .target(
      name: "FlowEngine", dependencies: ["FlowCore", "FlowStore", "FlowStageKit", "FlowPlan", "CProcess"],
      swiftSettings: optimized),
    .target(
      name: "FlowStages",
      dependencies: [
        "FlowCore", "FlowStageKit", "FlowScore", "FlowAudio", "FlowTensor", "FlowTensorCPU", "FlowTensorCUDA",
        "FlowNN", "FlowModels",
      ],
      swiftSettings: optimized),

    // 5 and 6
    .target(
      name: "FlowCommands",
      dependencies: [
        "COpenBLAS", "CProcess", "FlowCore", "FlowMPI", "FlowTensor", "FlowTensorCPU", "FlowNN", "FlowModels",
        "FlowStore", "FlowStageKit", "FlowPlan", "FlowEngine", "FlowStages",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: optimized),
    // Swift's libraries are linked in: loading the shared ones costs every start 10 ms.
    .executableTarget(
      name: "flow", dependencies: ["FlowCommands"], swiftSettings: optimized,
      linkerSettings: [
        .unsafeFlags(["-static-stdlib", "-lCoreFoundation", "-l_FoundationCollections"]),
        .unsafeFlags(["-l_FoundationCShims", "-l_FoundationICU", "-use-ld=lld"]),
        // 80,000 addresses to be filled in at every start: as a bitmap, not as 24 bytes each.
        .unsafeFlags(["-Xlinker", "-z", "-Xlinker", "pack-relative-relocs"]),
      ]),
    .executableTarget(
      name: "flow-bench",
      dependencies: [
        "FlowAudio", "FlowCore", "FlowStore", "FlowTensor", "FlowTensorCPU", "FlowNN", "FlowModels",
      ], path: "Benchmarks/flow-bench",
      swiftSettings: optimized
    ),
    // Its table of ops is the tests', so that it is built for debugging alone (optimised all the same).
    .executableTarget(
      name: "flow-gpu-check",
      dependencies: [
        "FlowCore", "FlowOpTable", "FlowTensor", "FlowTensorCPU", "FlowTensorCUDA", "FlowNN", "FlowModels",
      ], path: "Benchmarks/flow-gpu-check", swiftSettings: optimized, linkerSettings: portable),

    // Tests
    .target(
      name: "FlowTestSupport", dependencies: ["FlowCore", "CZlib"], path: "Tests/FlowTestSupport",
      swiftSettings: optimized),
    tests("FlowCore"),
    // Read by the tests of every device and by flow-gpu-check, which runs where there is no test runner.
    .target(
      name: "FlowOpTable", dependencies: ["FlowCore", "FlowTensor"], path: "Tests/FlowOpTable",
      swiftSettings: optimized),
    tests("FlowTensor", ["FlowTensorCPU", "FlowOpTable"]),
    tests("FlowTensorCUDA", ["CCUDA", "FlowNN", "FlowOpTable", "FlowTensor", "FlowTensorCPU"]),
    tests("FlowNN", ["FlowTensor", "FlowTensorCPU", "CZlib"]),
    tests("FlowAudio"),
    tests("FlowScore"),
    tests("FlowStore"),
    tests("FlowPlan", ["FlowStageKit"]),
    tests("FlowModels", ["FlowTensor", "FlowTensorCPU", "FlowNN"]),
    tests("FlowEngine", ["FlowStore", "FlowPlan", "FlowStageKit", "CProcess"]),
    tests("FlowStages", ["FlowStageKit", "FlowStore", "FlowPlan", "FlowEngine", "FlowAudio", "FlowScore"]),
    tests("FlowCommands", ["FlowPlan", "FlowEngine", "FlowStages", "FlowNN", "FlowTensor"]),
  ] + fuzz
)
