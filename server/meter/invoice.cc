#include "meter/invoice.h"

#include <array>
#include <map>

namespace sundog::meter {
namespace {

constexpr std::string_view kRounding =
    "Each amount is quantity times price, rounded half up to 12 decimals; totals are exact sums of the amounts.";

bool is_requests(const InvoiceLine& line) {
  return line.position == "requests";
}

// GB-seconds with six decimals, rounded half up; requests as they are.
std::string quantity_text(const InvoiceLine& line) {
  if (is_requests(line)) return std::to_string(line.quantity);
  constexpr int64_t kParts = 1'000'000;
  const auto micros = (static_cast<Money::Pico>(line.quantity) * kParts + kGbSecond / 2) / kGbSecond;
  return Money::of_pico(micros * kParts).text();
}

std::string_view unit_of(const InvoiceLine& line) {
  return is_requests(line) ? "requests" : "GB-s";
}
std::string_view price_unit_of(const InvoiceLine& line) {
  return is_requests(line) ? "1,000,000 requests" : "GB-s";
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out.append(c == '"' ? 2 : 1, c);
  return out + "\"";
}

std::string csv_row(std::initializer_list<std::string_view> fields) {
  std::string row;
  for (const auto field : fields) row += (row.empty() ? "" : ",") + csv_field(field);
  return row + "\r\n";
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string cell(std::string_view text, std::string_view kind = "") {
  return "<td" + (kind.empty() ? "" : " class=\"" + std::string(kind) + "\"") + ">" + escaped(text) + "</td>";
}

struct Total {
  const char* name;
  Money amount;
  std::string label() const { return std::string(name) == "total" ? "Total" : "Sum of " + std::string(name); }
};
std::array<Total, 5> totals_of(const Invoice& invoice) {
  const auto& t = invoice.totals;
  return {{{"requests", t.requests},
           {"execution", t.execution},
           {"init", t.init},
           {"restore", t.restore},
           {"total", t.total()}}};
}

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0;padding:3rem 1.5rem;background:Canvas;color:CanvasText}
main{max-width:60rem;margin:auto}
h1{font-size:1.6rem;margin:0 0 .2rem}
.note{opacity:.7;font-size:.85rem}
.open{display:inline-block;border:1px solid;border-radius:1rem;padding:0 .7rem;font-size:.8rem;margin-left:.6rem;vertical-align:middle}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:1.5rem 0 2rem}
dt{opacity:.7}dd{margin:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .7rem;border-bottom:1px solid #8885;white-space:nowrap}
th{font-weight:600;border-bottom:2px solid #8888}
.n{text-align:right;font-variant-numeric:tabular-nums}
tfoot tr:last-child td{font-weight:700;font-size:1.05rem;border-bottom:0}
@media print{body{padding:0}}
)";

std::string html_row(const InvoiceLine& line, bool first) {
  return "<tr>" + cell(first ? line.function : "") + cell(first ? line.kind : "") + cell(line.position) +
         cell(quantity_text(line), "n") + cell(unit_of(line)) + cell(line.price.text(), "n") +
         cell(line.amount.text(), "n") + "</tr>\n";
}

}  // namespace

Invoice make_invoice(const UsageQuery& query, const std::vector<UsageSum>& sums, const PricePlan& plan, WallTime now) {
  Invoice invoice{query.tenant, query.from, query.to, now, query.to <= now, plan.currency, plan.name, {}, {}};
  std::map<std::pair<std::string, std::string>, Quantity> groups;
  for (const auto& sum : sums) groups[{sum.function, sum.kind}].add(sum.quantity);
  for (const auto& [group, q] : groups) {
    const auto cost = cost_of(q, plan);
    const InvoiceLine lines[] = {
        {group.first, group.second, "requests", q.invocations, 0, plan.per_million_requests, cost.requests},
        {group.first, group.second, "execution", q.billed_mb_ms, q.billed_ms, plan.per_gb_second, cost.execution},
        {group.first, group.second, "init", q.init_mb_ms, q.init_ms, plan.init_per_gb_second, cost.init},
        {group.first, group.second, "restore", q.restore_mb_ms, q.restore_ms, plan.restore_per_gb_second, cost.restore},
    };
    for (const auto& line : lines) {
      if (line.quantity > 0) invoice.lines.push_back(line);
    }
    invoice.totals.requests += cost.requests;
    invoice.totals.execution += cost.execution;
    invoice.totals.init += cost.init;
    invoice.totals.restore += cost.restore;
  }
  return invoice;
}

Json invoice_json(const Invoice& invoice) {
  Json lines = Json::array();
  for (const auto& line : invoice.lines) {
    lines.push_back({{"function", line.function},
                     {"kind", line.kind},
                     {"position", line.position},
                     {"quantity", quantity_text(line)},
                     {"unit", unit_of(line)},
                     {"duration_ms", line.duration_ms},
                     {"price", line.price.text()},
                     {"per", price_unit_of(line)},
                     {"amount", line.amount.text()}});
  }
  Json totals = Json::object();
  for (const auto& total : totals_of(invoice)) totals[total.name] = total.amount.text();
  return {{"tenant", invoice.tenant},       {"from", iso_time(invoice.from)}, {"to", iso_time(invoice.to)},
          {"made", iso_time(invoice.made)}, {"final", invoice.final},         {"currency", invoice.currency},
          {"plan", invoice.plan},           {"rounding", kRounding},          {"lines", std::move(lines)},
          {"totals", std::move(totals)}};
}

std::string invoice_csv(const Invoice& invoice) {
  const std::string from = iso_time(invoice.from), to = iso_time(invoice.to);
  std::string out = csv_row({"tenant", "from", "to", "function", "kind", "position", "quantity", "unit", "duration_ms",
                             "price", "per", "amount", "currency"});
  for (const auto& line : invoice.lines) {
    out += csv_row({invoice.tenant, from, to, line.function, line.kind, line.position, quantity_text(line),
                    unit_of(line), std::to_string(line.duration_ms), line.price.text(), price_unit_of(line),
                    line.amount.text(), invoice.currency});
  }
  for (const auto& total : totals_of(invoice)) {
    out += csv_row(
        {invoice.tenant, from, to, "", "", total.label(), "", "", "", "", "", total.amount.text(), invoice.currency});
  }
  return out;
}

std::string invoice_html(const Invoice& invoice) {
  const std::string span = iso_time(invoice.from).substr(0, 16) + " to " + iso_time(invoice.to).substr(0, 16) + " UTC";
  std::string out = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">";
  out += "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Invoice " +
         escaped(invoice.tenant) + " " + iso_day(invoice.from) + "</title><style>" + std::string(kStyle) +
         "</style></head><body><main>\n<h1>Invoice";
  if (!invoice.final) out += "<span class=\"open\">provisional</span>";
  out += "</h1><dl><dt>Tenant</dt><dd>" + escaped(invoice.tenant) + "</dd><dt>Period</dt><dd>" + span +
         "</dd><dt>Prices</dt><dd>" + escaped(invoice.plan) + ", " + escaped(invoice.currency) +
         "</dd><dt>Made</dt><dd>" + iso_time(invoice.made).substr(0, 16) + " UTC</dd></dl>\n";
  out +=
      "<div class=\"scroll\"><table><thead><tr><th>Function</th><th>Kind</th><th>Position</th><th class=\"n\">Quantity"
      "</th><th></th><th class=\"n\">Price</th><th class=\"n\">Amount " +
      escaped(invoice.currency) + "</th></tr></thead>\n<tbody>";
  const InvoiceLine* before = nullptr;
  for (const auto& line : invoice.lines) {
    const bool first = before == nullptr || before->function != line.function || before->kind != line.kind;
    out += html_row(line, first);
    before = &line;
  }
  out += "</tbody><tfoot>";
  for (const auto& total : totals_of(invoice)) {
    out += "<tr><td colspan=\"6\">" + total.label() + "</td>" + cell(total.amount.text(), "n") + "</tr>\n";
  }
  return out + "</tfoot></table></div>\n<p class=\"note\">" + std::string(kRounding) +
         " Prices are for a million requests and for a GB-second. Nothing that did not run is billed.</p>\n"
         "</main></body></html>\n";
}

}  // namespace sundog::meter
