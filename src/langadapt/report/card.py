def model_card(plan, state, rows): return "x"
