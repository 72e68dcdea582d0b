-- kept_inputs --
SELECT number, content FROM job_input WHERE job_id = %(id)s
