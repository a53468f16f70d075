def page(plan, state, rows): return "x"
