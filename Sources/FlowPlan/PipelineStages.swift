import FlowCore
import FlowStageKit

/// The inside of a stage `run: pipeline`, as its declaration wires it.
struct PipelineBody: Sendable {
  /// The declaration's text, for the places of mistakes.
  var document: Document
  /// The stages within.
  var stages: DocumentNode
  /// What each output is: `STAGE.OUTPUT` of a stage within.
  var from: [String: DocumentNode]
}

/// Finds the mistakes inside of declared pipeline stages before any pipeline uses them.
enum PipelineStages {
  /// Every mistake, those of each declaration in the order of its text.
  static func check(_ catalog: StageCatalog) -> [Diagnostic] {
    let circles = circles(catalog)
    if !circles.isEmpty { return circles }
    return catalog.bodies.keys.sorted().flatMap { name -> [Diagnostic] in
      guard let body = catalog.bodies[name], let declaration = catalog[name] else { return [] }
      var resolver = Resolver(reader: DocumentReader(body.document), catalog: catalog)
      resolver.isShallow = true
      let isDefinite = declaration.parameters.allSatisfy { $0.standard != nil }
      var scope = Scope(prefix: name + "/")
      for parameter in declaration.parameters {
        scope.params[parameter.name] = parameter.standard ?? parameter.sample
      }
      for input in declaration.inputs {
        scope.inputs[input.name] = Scope.Input(references: [.source(input.name)], type: input.type)
      }
      let members = resolver.reader.members(body.stages, of: "stages", allowed: nil)
      let group = resolver.group(members, scope)
      let stages = resolver.planned(group)
      resolver.scope = group.scope
      for output in declaration.outputs {
        guard let from = body.from[output.name] else { continue }
        for one in resolver.references(from, nil, takesInputs: false) {
          resolver.check(one, output.type, "the output '\(output.name)'")
        }
      }
      _ = resolver.ordered(stages)
      // What a value would do is not known without one.
      return resolver.reader.problems.filter { isDefinite || !["E014", "E018"].contains($0.code) }
    }
  }

  /// Pipeline stages that lie within themselves.
  private static func circles(_ catalog: StageCatalog) -> [Diagnostic] {
    var (done, path, found) = (Set<String>(), [String](), [Diagnostic]())
    func visit(_ name: String, _ user: DocumentNode?, _ document: Document?) {
      if let start = path.firstIndex(of: name) {
        let place = user?.place
        found.append(
          Diagnostic(
            code: "E024",
            "pipeline stages lie in each other in a circle: \((path[start...] + [name]).joined(separator: " -> "))",
            at: place, sourceLine: place.flatMap { document?.line($0.line) }))
        return
      }
      guard let body = catalog.bodies[name], !done.contains(name), path.count < 256 else { return }
      path.append(name)
      for member in body.stages.members ?? [] {
        let node = member.value["uses"] ?? member.key
        if let uses = node.text { visit(uses, node, body.document) }
      }
      path.removeLast()
      done.insert(name)
    }
    for name in catalog.bodies.keys.sorted() { visit(name, nil, nil) }
    return found
  }
}
