/// A drawing, built up element by element.
struct SVG {
    let width: Double
    let height: Double
    private var elements: [String] = []

    enum Anchor: String {
        case start
        case middle
        case end
    }

    init(width: Double, height: Double) {
        self.width = width
        self.height = height
    }

    /// The file. White behind, so that it can be read on a dark page too.
    var text: String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(n(width)) \(n(height))" \
        width="\(n(width))" height="\(n(height))" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif">
        <rect width="100%" height="100%" fill="#ffffff"/>

        """ + elements.joined(separator: "\n") + "\n</svg>\n"
    }

    mutating func rectangle(x: Double, y: Double, width: Double, height: Double, fill: String, radius: Double = 0) {
        elements.append(
            "<rect x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(max(0, width)))\" height=\"\(n(height))\""
                + " rx=\"\(n(radius))\" fill=\"\(fill)\"/>")
    }

    mutating func line(_ from: (x: Double, y: Double), _ to: (x: Double, y: Double), stroke: String, width: Double = 1)
    {
        elements.append(
            "<line x1=\"\(n(from.x))\" y1=\"\(n(from.y))\" x2=\"\(n(to.x))\" y2=\"\(n(to.y))\""
                + " stroke=\"\(stroke)\" stroke-width=\"\(n(width))\"/>")
    }

    mutating func curve(_ points: [(x: Double, y: Double)], stroke: String, width: Double, dash: String = "") {
        let path = points.map { "\(n($0.x)),\(n($0.y))" }.joined(separator: " ")
        let dashes = dash.isEmpty ? "" : " stroke-dasharray=\"\(dash)\""
        elements.append(
            "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(stroke)\" stroke-width=\"\(n(width))\""
                + " stroke-linejoin=\"round\"\(dashes)/>")
    }

    mutating func dot(x: Double, y: Double, radius: Double, fill: String) {
        elements.append("<circle cx=\"\(n(x))\" cy=\"\(n(y))\" r=\"\(n(radius))\" fill=\"\(fill)\"/>")
    }

    mutating func write(
        _ words: String, x: Double, y: Double, size: Double = 12, anchor: Anchor = .start, fill: String = Ink.text,
        isBold: Bool = false
    ) {
        let weight = isBold ? " font-weight=\"600\"" : ""
        elements.append(
            "<text x=\"\(n(x))\" y=\"\(n(y))\" font-size=\"\(n(size))\" text-anchor=\"\(anchor.rawValue)\""
                + " fill=\"\(fill)\"\(weight)>\(escaped(words))</text>")
    }

    /// With two digits at most behind the point.
    private func n(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        return hundredths.isMultiple(of: 100) ? "\(hundredths / 100)" : "\(Double(hundredths) / 100)"
    }

    private func escaped(_ words: String) -> String {
        var text = ""
        for character in words {
            switch character {
            case "&": text += "&amp;"
            case "<": text += "&lt;"
            case ">": text += "&gt;"
            default: text.append(character)
            }
        }
        return text
    }
}

/// Colours that differ also for those who see few of them (Okabe and Ito, "Color Universal Design").
enum Ink {
    static let text = "#24292f"
    static let faint = "#6e7781"
    static let grid = "#e4e8ec"
    static let ours = "#0072b2"
    static let alsoOurs = "#7fb8d8"
    static let yardstick = "#57606a"
    static let peer = "#e0a458"

    static func bar(of server: String) -> String {
        switch server {
        case "libuv", "tls": ours
        case "libuv-64k", "epoll", "poll", "select": alsoOurs
        case "c-libuv", "c-libuv-batched", "c-epoll", "c-tls": yardstick
        default: peer
        }
    }

    static func line(of server: String) -> String {
        switch server {
        case "c-libuv": "#57606a"
        case "c-epoll": "#a0a8b0"
        case "libuv": "#0072b2"
        case "epoll": "#009e73"
        case "poll": "#e69f00"
        case "select": "#d55e00"
        case "nio": "#cc79a7"
        case "node": "#8c6d31"
        case "uvloop": "#b5a300"
        default: "#56b4e9"
        }
    }
}
